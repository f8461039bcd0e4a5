"""The budgets, as the UI shows them: an external asset, of which the budget sensor tells how it stands."""

import dagster as dg

from assets.avatars import OWNERS

budgets = dg.AssetSpec(
    "budgets",
    group_name="operations",
    owners=OWNERS,
    kinds={"python"},
    description="How the budgets stand, as the budget sensor saw them last; its figures are plotted over time.",
)
