-- Each revision with what became of it on its page: reverted, deleted with it, under which title it stands now.
--
-- Reverts (rule 11 of docs/products/history.md): revisions with one hash are a series, which its reverters cut into stretches. A revision is
-- reverted by the nearest reverter at the end of a stretch in which it lies; that is the rule, said so that no revision is
-- compared with every reverter of a page.

with revisions as (
    select *, row_number() over (partition by wiki_id, page_id order by event_timestamp, revision_id) as n
    from mediawiki.revision_state
),

series as (
    select
        wiki_id,
        page_id,
        n,
        revision_text_sha1 as sha1,
        row_update_dt,
        lag(revision_id) over in_order is not null
            and revision_parent_id is distinct from lag(revision_id) over in_order as is_reverter,
        first_value(n) over in_order as base_n,
        first_value(row_update_dt) over in_order as base_update_dt
    from revisions
    where revision_text_sha1 is not null
    window in_order as (partition by wiki_id, page_id, revision_text_sha1 order by n)
),

members as (
    -- The stretch each member but the base lies in: from the reverter before it (else the base) to the next reverter from it on.
    select
        *,
        max(case when is_reverter then {'n': n, 'row_update_dt': row_update_dt} end) over (
            partition by wiki_id, page_id, sha1 order by n rows between unbounded preceding and 1 preceding
        ) as began,
        min(case when is_reverter then n end) over (
            partition by wiki_id, page_id, sha1 order by n rows between current row and unbounded following
        ) as reverter_n
    from series
),

stretches as (
    select
        wiki_id,
        page_id,
        coalesce(began.n, base_n) as after_n,
        max(n) as until_n,
        reverter_n,
        max(greatest(row_update_dt, base_update_dt, began.row_update_dt)) as row_update_dt
    from members
    where n > base_n
    group by wiki_id, page_id, sha1, coalesce(began.n, base_n), reverter_n
),

found as (
    select
        stretches.wiki_id,
        stretches.page_id,
        inside.n,
        min(case when stretches.reverter_n > inside.n then stretches.reverter_n end) as reverter_n,
        max(stretches.row_update_dt) as row_update_dt
    from stretches
    cross join unnest(range(stretches.after_n + 1, stretches.until_n + 1)) as inside(n)
    group by stretches.wiki_id, stretches.page_id, inside.n
),

judged as (
    select
        revisions.*,
        reverting.revision_id as reverting_revision_id,
        date_diff('second', revisions.event_timestamp, reverting.event_timestamp) as seconds_to_revert,
        case when revisions.revision_text_sha1 is not null then reverting.revision_id is not null end as is_reverted,
        series.is_reverter,
        found.row_update_dt as found_update_dt
    from revisions
    left join series on series.wiki_id = revisions.wiki_id and series.page_id = revisions.page_id and series.n = revisions.n
    left join found
        on found.wiki_id = revisions.wiki_id and found.page_id = revisions.page_id
        and found.n = case when revisions.revision_text_sha1 is not null then revisions.n end
    left join revisions as reverting
        on reverting.wiki_id = revisions.wiki_id and reverting.page_id = revisions.page_id and reverting.n = found.reverter_n
),

placed as (
    -- A snapshot's row knows its page better than the snapshot's own page events do, until something happens to the page.
    select
        judged.*,
        latest.page_id is not null and (judged.source = 'events' or latest.source = 'events') as is_by_latest,
        latest.page_title as latest_title,
        latest.page_namespace as latest_namespace,
        case when is_by_latest then latest.page_merged_into_page_id end as page_merged_into_page_id,
        latest.page_is_deleted and judged.event_timestamp <= latest.event_timestamp as is_deleted_by_latest,
        case when is_by_latest then latest.row_update_dt end as latest_update_dt
    from judged
    left join (select * from mediawiki.page_history where page_is_latest_event) as latest
        on latest.wiki_id = judged.wiki_id and latest.page_id = judged.page_id
)

select
    source,
    wiki_id,
    page_id,
    revision_id,
    event_timestamp,
    event_user_id,
    event_user_central_id,
    event_user_text_historical,
    event_user_is_temporary,
    event_user_registration_timestamp,
    event_user_revision_count,
    event_user_groups_historical,
    page_title_historical,
    case when is_by_latest then latest_title else coalesce(page_title, page_title_historical) end as page_title,
    page_namespace_historical,
    case when is_by_latest then latest_namespace else coalesce(page_namespace, page_namespace_historical) end as page_namespace,
    case when is_by_latest then is_deleted_by_latest else coalesce(page_is_deleted, false) end as page_is_deleted,
    page_merged_into_page_id,
    revision_parent_id,
    revision_minor_edit,
    revision_text_bytes,
    revision_text_bytes_diff,
    case when not list_contains(revision_deleted_parts, 'text') then revision_text_sha1 end as revision_text_sha1,
    revision_deleted_parts,
    case when revision_is_identity_reverted then true
        else coalesce(is_reverted, revision_is_identity_reverted)
    end as revision_is_identity_reverted,
    case when revision_is_identity_reverted then revision_first_identity_reverting_revision_id
        else reverting_revision_id
    end as revision_first_identity_reverting_revision_id,
    case when revision_is_identity_reverted then revision_seconds_to_identity_revert
        else seconds_to_revert
    end as revision_seconds_to_identity_revert,
    case when revision_is_identity_revert then true
        else coalesce(is_reverter, revision_is_identity_revert)
    end as revision_is_identity_revert,
    case when is_by_latest then is_deleted_by_latest
        else coalesce(revision_is_deleted_by_page_deletion, false)
    end as revision_is_deleted_by_page_deletion,
    revision_tags,
    greatest(row_update_dt, found_update_dt, latest_update_dt) as row_update_dt
from placed
