"""The account in the API's words: voices, subscription, user, history."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.elevenlabs.account import Account, Item, Voice


def voice(voice: Voice) -> dict[str, Any]:
    """Return a voice as `GET v1/voices/{id}` does."""
    return {
        "voice_id": voice.voice_id,
        "name": voice.name,
        "samples": [
            {
                "sample_id": hashlib.sha256(content).hexdigest()[:20],
                "file_name": name,
                "mime_type": kind,
                "size_bytes": len(content),
                "hash": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            }
            for name, kind, content in voice.samples
        ],
        "category": voice.category,
        "fine_tuning": {"is_allowed_to_fine_tune": False, "state": {}, "language": None},
        "labels": voice.labels,
        "description": voice.description,
        "preview_url": None,
        "available_for_tiers": [],
        "settings": None,
        "sharing": None,
        "high_quality_base_model_ids": [],
        "verified_languages": [],
        "collection_ids": [],
        "safety_control": None,
        "voice_verification": {
            "requires_verification": voice.requires_verification,
            "is_verified": voice.is_verified,
            "verification_failures": [],
            "verification_attempts_count": 0,
            "language": None,
            "verification_attempts": None,
        },
        "permission_on_resource": "viewer" if voice.category == "premade" else "admin",
        "is_owner": voice.category != "premade",
        "is_legacy": False,
        "is_mixed": False,
        "created_at_unix": int(voice.created_at) or None,
    }


def _plan(account: Account) -> dict[str, Any]:
    rules = account.rules
    used = account.credits_used()
    resets_at = rules.quota_resets_at
    return {
        "tier": rules.tier,
        "character_count": used,
        "character_limit": rules.quota,
        "max_character_limit_extension": None,
        "max_credit_limit_extension": 0,
        "can_extend_character_limit": False,
        "allowed_to_extend_character_limit": False,
        "next_character_count_reset_unix": None if resets_at is None else int(resets_at),
        "voice_slots_used": len(account.own_voices()),
        "professional_voice_slots_used": 0,
        "professional_voice_slots_used_in_workspace": 0,
        "voice_limit": rules.voice_limit,
        "max_voice_add_edits": 1000,
        "voice_add_edit_counter": account.voices_made,
        "professional_voice_limit": 1,
        "can_extend_voice_limit": False,
        "can_use_instant_voice_cloning": rules.can_clone,
        "can_use_professional_voice_cloning": rules.tier not in ("free", "starter"),
        "currency": "usd",
        "current_overage": {"amount": "0", "currency": "usd"},
        "status": "free" if rules.tier == "free" else "active",
        "billing_period": "monthly_period",
        "character_refresh_period": "monthly_period",
    }


def subscription(account: Account) -> dict[str, Any]:
    """Return the subscription as `GET v1/user/subscription` does."""
    invoice = {
        "amount_due_cents": 2200,
        "subtotal_cents": 2200,
        "tax_cents": 0,
        "discounts": [{"discount_percent_off": 0.0, "discount_amount_off": 0.0}],
        "next_payment_attempt_unix": int(account.clock()) + 86_400,
        "payment_intent_status": "processing",
        "payment_intent_statusses": ["processing"],
    }
    return _plan(account) | {
        "next_invoice": invoice,
        "open_invoices": [],
        "has_open_invoices": False,
        "pending_change": None,
    }


def user(account: Account) -> dict[str, Any]:
    """Return the user as `GET v1/user` does."""
    return {
        "user_id": "user-of-the-stand-in",
        "workspace_id": "workspace-of-the-stand-in",
        "subscription": _plan(account),
        "is_new_user": False,
        "can_use_delayed_payment_methods": False,
        "is_onboarding_completed": True,
        "is_onboarding_checklist_completed": True,
        "show_compliance_terms": False,
        "first_name": "Ada",
        "is_api_key_hashed": True,
        "xi_api_key_preview": "***",
        "created_at": 1_700_000_000,
        "seat_type": "workspace_admin",
    }


def history_item(item: Item, *, with_alignments: bool) -> dict[str, Any]:
    """Return an utterance as the history does."""
    alignments = None
    if with_alignments and item.alignment and item.normalized_alignment:
        alignments = {"alignment": item.alignment, "normalized_alignment": item.normalized_alignment}
    return {
        "history_item_id": item.history_item_id,
        "request_id": item.request_id,
        "voice_id": item.voice_id,
        "model_id": item.model_id,
        "voice_name": item.voice_name,
        "voice_category": "cloned",
        "text": item.text,
        "date_unix": int(item.date),
        "character_count_change_from": item.count_from,
        "character_count_change_to": item.count_to,
        "content_type": item.content_type,
        "state": "created",
        "settings": item.settings,
        "share_link_id": None,
        "source": "TTS",
        "alignments": alignments,
        "output_format": item.output_format,
    }
