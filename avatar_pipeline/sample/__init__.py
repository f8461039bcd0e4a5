"""The project's own talking-head upload, made from a public-domain portrait, so that tests and the demo know the truth.

`avatar_pipeline.sample.upload.make_sample_upload` writes it. Only the command line and the tests use this room.
"""
