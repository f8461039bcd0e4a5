"""One eSpeak NG call in a process of its own: `python -m avatar_pipeline.voice.espeak_worker`.

A process for each utterance, because eSpeak NG is only bit-reproducible in a fresh process, is not thread-safe, and may
crash. It is GPL-3.0 software that the user installs: it is loaded here and nowhere else, and nothing but bytes comes
back.

stdin holds one JSON object: `{"do": "voices"}` or `{"do": "speak", "text", "voice", "rate", "pitch", "range"}`
(`voice` an identifier from `voices`, with an optional `+variant`; words a minute 80..450; pitch and range 0..99).
stdout holds one line of JSON and then, for `speak`, mono 16-bit native-endian PCM. The line is
`{"voices": [{"identifier", "name", "languages"}]}` or `{"rate", "phonemes": [[sample, ipa]],
"words": [[sample, position, length, last]]}` (position: 0-based, in characters of the text; last: where the sound that
was announced before the word is, or -1), or `{"error": text}` with exit
status 3 (eSpeak NG is not installed) or 4 (it refused).

Constants and structures are those of `speak_lib.h`, eSpeak NG 1.52
(https://github.com/espeak-ng/espeak-ng/blob/1.52.0/src/include/espeak-ng/speak_lib.h).
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

NOT_INSTALLED = 3
REFUSED = 4

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS, _INITIALIZE_PHONEME_IPA, _INITIALIZE_DONT_EXIT = 0x1, 0x2, 0x8000
_EVENT_LIST_TERMINATED, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_POS_CHARACTER = 1
_CHARS_UTF8 = 1


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Refused(Exception):
    """eSpeak NG is there and would not do it."""


def _load() -> tuple[ctypes.CDLL, int]:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_PHONEME_IPA | _INITIALIZE_DONT_EXIT
    data = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, options)
    if rate <= 0:
        raise Refused(f"espeak_Initialize returned {rate}")
    return library, rate


def _languages(address: int) -> list[str]:
    """Read a voice's language list: a priority byte and a C string for each, closed by a zero byte; best first."""
    found: list[tuple[int, str]] = []
    while priority := ctypes.string_at(address, 1)[0]:
        tag = ctypes.string_at(address + 1)
        found.append((priority, tag.decode()))
        address += len(tag) + 2
    return [tag for _, tag in sorted(found, key=lambda entry: entry[0])]


def _voices(library: ctypes.CDLL) -> list[dict[str, Any]]:
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    table = library.espeak_ListVoices(None)
    voices = []
    index = 0
    while table[index]:
        voice = table[index].contents
        languages = _languages(voice.languages)
        voices.append({"identifier": voice.identifier.decode(), "name": voice.name.decode(), "languages": languages})
        index += 1
    return voices


def _speak(library: ctypes.CDLL, request: dict[str, Any]) -> tuple[list[Any], list[Any], bytes]:
    status = library.espeak_SetVoiceByName(request["voice"].encode())
    if status != 0:
        raise Refused(f"it has no voice {request['voice']!r} (status {status})")
    for parameter, value in (
        (_RATE, request["rate"]),
        (_VOLUME, 100),
        (_PITCH, request["pitch"]),
        (_RANGE, request["range"]),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    pcm = bytearray()
    phonemes: list[Any] = []
    words: list[Any] = []

    def collect(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            pcm.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while (event := events[index]).type != _EVENT_LIST_TERMINATED:
            if event.type == _EVENT_PHONEME:
                # The event holds at most 8 bytes, which can cut a character.
                ipa = bytes(event.id.string).split(b"\0")[0].decode("utf-8", "ignore")
                phonemes.append([event.sample, ipa])
            elif event.type == _EVENT_WORD:
                last = next((sample for sample, ipa in reversed(phonemes) if ipa), -1)
                words.append([event.sample, event.text_position - 1, event.length, last])
            index += 1
        return 0

    callback = _SynthCallback(collect)
    library.espeak_SetSynthCallback(callback)
    text = request["text"].encode() + b"\0"
    status = library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
    if status != 0:
        raise Refused(f"espeak_Synth returned {status}")
    library.espeak_Synchronize()
    return phonemes, words, bytes(pcm)


def _answer(header: dict[str, Any], body: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + body)
    sys.stdout.buffer.flush()


def main() -> int:
    """Answer the one request on stdin; return the exit status."""
    request = json.load(sys.stdin.buffer)
    try:
        library, rate = _load()
        if request["do"] == "voices":
            _answer({"voices": _voices(library)})
        else:
            phonemes, words, pcm = _speak(library, request)
            _answer({"rate": rate, "phonemes": phonemes, "words": words}, pcm)
    except (ImportError, OSError) as error:
        _answer({"error": str(error)})
        return NOT_INSTALLED
    except Refused as error:
        _answer({"error": str(error)})
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
