"""Replays spot availability traces: what would a job with a deadline have cost, by the policy that decided for it?"""
