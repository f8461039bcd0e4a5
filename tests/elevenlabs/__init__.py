"""A stand-in for ElevenLabs on loopback: the real SDK talks to it, it speaks, counts, refuses and fails as told.

In a test, the fixture `elevenlabs_standin` or

    with StandIn(speech="beeps", limits={"standard": 5}, faults=["system_busy", None, "hang"]) as standin:
        client = ElevenLabs(api_key=standin.api_key, base_url=standin.url)
        ...
        assert standin.report().billed_twice == ()

(`tests.elevenlabs.server`); for several processes `own_process(...)` (`tests.elevenlabs.control`), which gives the same
`url`, `api_key`, `report()` and `change()`, or `python -m tests.elevenlabs`. `Control(url)` reaches a running one from
anywhere. What can be set is in `rules.py`, what is seen in `Report`.

It knows less than the real one: languages are not told from the text, the history gives audio in the format in which it
was spoken, isolation gives back what it gets, and forced alignment knows only the times of what was spoken here.
"""
