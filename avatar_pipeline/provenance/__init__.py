"""Where a file comes from, said inside the file: C2PA content credentials, written as the last step and read back."""

from avatar_pipeline.provenance.claim import Claim
from avatar_pipeline.provenance.signing import sign

__all__ = ["Claim", "sign"]
