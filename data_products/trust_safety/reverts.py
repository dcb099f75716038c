"""Identity reverts: who undid whose edits on which page, and how often the same editor did so within a day.

Polars rather than SQL because the 24-hour count is a rolling window per page and editor that ends at each single revert.
"""

from __future__ import annotations

import polars as pl

from platform_resources import data_product

PAGE = ["wiki_id", "page_id"]


@data_product(inputs={"page_change": "mediawiki/page_change"})
def reverts(page_change: pl.LazyFrame) -> pl.LazyFrame:
    """One row per edit that restored an earlier revision of its page and thereby undid at least one edit in between.

    An edit restores the last earlier revision with its content hash, unless that is its own parent: saving without a change undoes
    nothing. The rule is that of activity/edit_statistics, told from the side of the one who reverts.
    """
    edits = _edits(page_change)
    same_content = [*PAGE, "rev_sha1"]
    found = (
        edits.with_columns(
            restored_rev_id=pl.col("rev_id").shift(1).over(same_content),
            restored_position=pl.col("position").shift(1).over(same_content),
            undone_user_text=pl.col("user_text").shift(1).over(PAGE),
            undone_user_id=pl.col("user_id").shift(1).over(PAGE),
            undone_editor=pl.col("editor").shift(1).over(PAGE),
            undone_dt=pl.col("dt").shift(1).over(PAGE),
            streak_start=pl.col("streak_start").shift(1).over(PAGE),
        )
        .filter(
            pl.col("rev_sha1").is_not_null()
            & (pl.col("restored_rev_id") != pl.col("rev_parent_id"))
            & (pl.col("position") > pl.col("restored_position") + 1)
        )
        .with_columns(edits_undone=(pl.col("position") - pl.col("restored_position") - 1).cast(pl.Int64))
    )
    one_editor = pl.col("streak_start") <= pl.col("restored_position") + 1
    return (
        found.with_columns(is_self_revert=(one_editor & (pl.col("editor") == pl.col("undone_editor"))).fill_null(value=False))
        .sort(*PAGE, "editor", "dt", "rev_id")
        .with_columns(
            reverts_in_24_hours=pl.when(pl.col("editor").is_not_null()).then(
                (~pl.col("is_self_revert")).cast(pl.Int64).rolling_sum_by("dt", window_size="24h").over([*PAGE, "editor"])
            )
        )
        .select(
            *PAGE,
            "rev_id",
            "dt",
            "page_title",
            "namespace_id",
            "user_id",
            "user_text",
            "is_anonymous",
            "is_bot",
            "restored_rev_id",
            "edits_undone",
            "undone_user_id",
            "undone_user_text",
            pl.col("dt").sub(pl.col("undone_dt")).dt.total_seconds().alias("seconds_to_revert"),
            "is_self_revert",
            "reverts_in_24_hours",
        )
    )


def _edits(page_change: pl.LazyFrame) -> pl.LazyFrame:
    """Each edit once, numbered by `position` within its page in order of time; hidden editors are null.

    `editor` names an editor by id, or by address where there is none; `streak_start` is the position at which the run of
    consecutive edits of one editor began.
    """
    revision, performer, page, meta = (pl.col(name).struct for name in ("revision", "performer", "page", "meta"))
    shown = revision.field("is_editor_visible").fill_null(value=True)
    author = revision.field("editor").struct

    def of_editor(name: str) -> pl.Expr:
        return pl.coalesce(performer.field(name), author.field(name))

    user_id, user_text = of_editor("user_id"), of_editor("user_text")
    return (
        page_change.filter(pl.col("page_change_kind").is_in(["create", "edit"]) & (meta.field("domain").fill_null("") != "canary"))
        .select(
            "wiki_id",
            "dt",
            page.field("page_id"),
            page.field("page_title"),
            page.field("namespace_id"),
            revision.field("rev_id"),
            revision.field("rev_parent_id").fill_null(0),
            revision.field("rev_sha1"),
            pl.when(shown & (user_id != 0)).then(user_id).alias("user_id"),
            pl.when(shown).then(user_text).alias("user_text"),
            of_editor("is_bot").fill_null(value=False).alias("is_bot"),
            of_editor("is_temp").fill_null(value=False).alias("is_temp"),
            meta.field("dt").alias("received"),
            meta.field("id").alias("event_id"),
        )
        .sort("received", "dt", "event_id", descending=True, nulls_last=True)
        .unique(subset=[*PAGE, "rev_id"], keep="first", maintain_order=True)
        .sort(*PAGE, "dt", "rev_id")
        .with_columns(
            position=pl.int_range(pl.len()).over(PAGE),
            editor=pl.coalesce(pl.lit("#") + pl.col("user_id").cast(pl.String), pl.col("user_text")),
            is_anonymous=(pl.col("user_id").is_null() & pl.col("user_text").is_not_null())
            | (pl.col("user_id").is_not_null() & pl.col("is_temp")),
        )
        .with_columns(streak=pl.col("editor").rle_id().over(PAGE))
        .with_columns(
            streak_start=pl.col("position").min().over([*PAGE, "streak"]),
        )
    )
