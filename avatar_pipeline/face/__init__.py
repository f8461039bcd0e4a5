"""The face room: landmark detectors, tracking over a video, head pose, and whether the video can be used."""
