-- What happened to each page as a whole, from its wiki's snapshot and from events since, and what the page's latest event says of now.
--
-- A page that was restored under another id lives on there: its own last event is a merge. The rules are in docs/products/history.md.

with changes as (
    select told.*, coalesce(told.meta.dt, told.dt) as received
    from mediawiki.page_change as told
    left join mediawiki.history_baseline as baseline on baseline.wiki_id = told.wiki_id
    where told.page_change_kind in ('create', 'move', 'delete', 'undelete')
        and coalesce(told.meta.domain, '') <> 'canary'
        and told.meta.id is not null
        and (baseline.holds_until is null or told.dt >= baseline.holds_until)
),

told as (
    select
        changes.*,
        page.page_id as page_id,
        case page_change_kind when 'create' then 'create-page' when 'undelete' then 'restore' else page_change_kind end as event_type,
        cast(null as bigint) as lives_on_as
    from changes
    union all
    select changes.*, prior_state.page.page_id as page_id, 'merge' as event_type, page.page_id as lives_on_as
    from changes
    where page_change_kind = 'undelete' and prior_state.page.page_id <> page.page_id
),

once as (
    select *, max(_ingested_at) over (partition by wiki_id, page_id, meta.id) as ingested_at
    from told
    qualify row_number() over (
        partition by wiki_id, page_id, meta.id order by received desc, dt desc, _topic desc, _partition desc, _offset desc
    ) = 1
),

events as (
    select
        'events' as source,
        wiki_id,
        page_id,
        cast(page_id as varchar) || '-' || meta.id as event_key,
        event_type,
        dt as event_timestamp,
        received,
        nullif(performer.user_id, 0) as event_user_id,
        performer.user_central_id as event_user_central_id,
        performer.user_text as event_user_text_historical,
        performer.is_temp as event_user_is_temporary,
        performer.registration_dt as event_user_registration_timestamp,
        performer.edit_count as event_user_revision_count,
        performer.groups as event_user_groups_historical,
        case when coalesce(page.namespace_id, 0) <> 0
            then regexp_replace(page.page_title, '^[^:]+:', '') else page.page_title
        end as page_title_historical,
        cast(page.namespace_id as integer) as page_namespace_historical,
        lives_on_as,
        meta.id as event_meta_id,
        ingested_at
    from once
    union all by name
    select
        'snapshot' as source,
        held.wiki_id,
        held.page_id,
        cast(held.page_id as varchar) || '-snapshot-' || held.event_key as event_key,
        held.event_type,
        held.event_timestamp,
        nullif(held.event_user_id, 0) as event_user_id,
        held.event_user_central_id,
        held.event_user_text_historical,
        held.event_user_is_temporary,
        held.event_user_registration_timestamp,
        held.event_user_revision_count,
        held.event_user_groups_historical,
        held.page_title_historical,
        held.page_namespace_historical,
        baseline.landed_at as ingested_at
    from mediawiki.history_snapshot as held
    join mediawiki.history_baseline as baseline on baseline.wiki_id = held.wiki_id and baseline.snapshot = held._slice
    where held.event_entity = 'page' and held.page_id is not null and held.event_timestamp < baseline.holds_until
    qualify row_number() over (
        partition by held.wiki_id, held.page_id, held.event_key
        order by held._landed_at desc, held._file_name desc, held._line desc nulls last
    ) = 1
),

ordered as (
    select
        *,
        row_number() over latest_first as from_latest,
        first_value(page_title_historical) over latest_first as page_title,
        first_value(page_namespace_historical) over latest_first as page_namespace,
        first_value(lives_on_as) over latest_first as page_merged_into_page_id,
        first_value(ingested_at) over latest_first as latest_ingested_at
    from events
    window latest_first as (
        partition by wiki_id, page_id order by event_timestamp desc, received desc nulls last, event_key desc
    )
)

select
    ordered.source,
    ordered.wiki_id,
    ordered.page_id,
    ordered.event_key,
    ordered.event_type,
    ordered.event_timestamp,
    ordered.event_user_id,
    ordered.event_user_central_id,
    ordered.event_user_text_historical,
    ordered.event_user_is_temporary,
    ordered.event_user_registration_timestamp,
    ordered.event_user_revision_count,
    ordered.event_user_groups_historical,
    ordered.page_title_historical,
    ordered.page_title,
    ordered.page_namespace_historical,
    ordered.page_namespace,
    ordered.event_type = 'delete' as page_is_deleted,
    ordered.page_merged_into_page_id,
    ordered.from_latest = 1 as page_is_latest_event,
    ordered.event_meta_id,
    greatest(ordered.ingested_at, ordered.latest_ingested_at, baseline.landed_at) as row_update_dt
from ordered
left join mediawiki.history_baseline as baseline on baseline.wiki_id = ordered.wiki_id
