-- How much each page was edited on each UTC day, and how much of that did not last.
--
-- One row per wiki, page and day with at least one edit. A revert of today changes a past day of the same page, hence the
-- product is incremental by page: everything about a page is computed from its whole history.

with revisions as (
    -- One row per revision. A revision delivered twice (other meta.id, same rev_id) counts once, as last received.
    -- A move leaves a revision without edit: it is no edit, but the next edit may name it as its parent.
    select
        wiki_id,
        page.page_id as page_id,
        page.page_title as page_title,
        page.namespace_id as namespace_id,
        dt,
        page_change_kind as kind,
        revision.rev_id as rev_id,
        coalesce(revision.rev_parent_id, 0) as parent_id,
        revision.rev_sha1 as sha1,
        revision.rev_size as size,
        prior_state.revision.rev_size as prior_size,
        coalesce(revision.is_minor_edit, false) as is_minor,
        coalesce(performer.is_bot, revision.editor.is_bot, false) as is_bot,
        coalesce(performer.is_temp, revision.editor.is_temp, false) as is_temp,
        case when coalesce(revision.is_editor_visible, true)
            then nullif(coalesce(performer.user_id, revision.editor.user_id), 0)
        end as user_id,
        case when coalesce(revision.is_editor_visible, true)
            then coalesce(performer.user_text, revision.editor.user_text)
        end as user_text
    from mediawiki.page_change
    where page_change_kind in ('create', 'edit', 'move')
        and coalesce(meta.domain, '') <> 'canary'
    qualify row_number() over (
        partition by wiki_id, page.page_id, revision.rev_id
        order by
            case when page_change_kind = 'move' then 1 else 0 end,
            meta.dt desc nulls last, dt desc, meta.id desc nulls last
    ) = 1
),

sized as (
    -- Bytes changed: against the size the event names, else the parent's, else (no parent named) the revision before.
    -- Where none is known, bytes stay unknown and count for nothing.
    select
        revisions.*,
        cast(revisions.dt as date) as day,
        revisions.size - coalesce(
            revisions.prior_size,
            parents.size,
            case when revisions.parent_id = 0 then lag(revisions.size) over (
                partition by revisions.wiki_id, revisions.page_id order by revisions.dt, revisions.rev_id
            ) end,
            case when revisions.kind = 'create' then 0 end
        ) as bytes
    from revisions
    left join revisions as parents
        on parents.wiki_id = revisions.wiki_id
        and parents.page_id = revisions.page_id
        and parents.rev_id = revisions.parent_id
),

ordered as (
    select
        *,
        row_number() over (partition by wiki_id, page_id order by dt, rev_id) as n
    from sized
    where kind <> 'move'
),

restored as (
    -- An edit restores the last earlier revision with the same content hash, unless that is its own parent (a null edit).
    select
        *,
        case
            when sha1 is not null
                and lag(rev_id) over (partition by wiki_id, page_id, sha1 order by n) <> parent_id
            then lag(n) over (partition by wiki_id, page_id, sha1 order by n)
        end as restored_n,
        row_number() over (partition by wiki_id, page_id, day order by n desc) as from_last
    from ordered
),

judged as (
    -- Reverted: some later edit restores something earlier.
    select
        *,
        coalesce(min(restored_n) over (
            partition by wiki_id, page_id order by n rows between 1 following and unbounded following
        ) < n, false) as is_reverted
    from restored
)

select
    wiki_id,
    page_id,
    day,
    max(case when from_last = 1 then page_title end) as page_title,
    max(case when from_last = 1 then namespace_id end) as namespace_id,
    count(*) as edits,
    count(*) filter (
        where (is_temp and user_id is not null) or (user_id is null and user_text is not null)
    ) as anonymous,
    count(*) filter (where user_id is null and user_text is null) as unattributed,
    count(*) filter (where is_bot) as bot,
    count(*) filter (where is_minor) as minor,
    count(*) filter (where is_reverted) as reverted,
    count(distinct coalesce('#' || cast(user_id as varchar), user_text)) as editors,
    cast(coalesce(sum(greatest(bytes, 0)), 0) as bigint) as bytes_added,
    cast(coalesce(sum(greatest(-bytes, 0)), 0) as bigint) as bytes_removed,
    count(*) filter (where bytes is null) as unsized
from judged
group by wiki_id, page_id, day
