"""The hosted voice: ElevenLabs. Cloned voices, speech with the times of its characters, credits paid for once.

`open_elevenlabs` puts a provider together. Only `door` knows the SDK, which is imported when it is first asked.
"""

from avatar_pipeline.voice.elevenlabs.open import open_elevenlabs as open_elevenlabs
from avatar_pipeline.voice.elevenlabs.provider import ElevenLabsProvider as ElevenLabsProvider
