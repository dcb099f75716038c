-- What happened to each account, from its wiki's snapshot and from events since, and what the account is called now.
--
-- The names of an account that a block hides are nowhere in it but as an actor's. The rules are in docs/products/history.md.

with blockings as (
    select blocked.*, baseline.holds_until
    from mediawiki.user_blocks_change as blocked
    left join mediawiki.history_baseline as baseline on baseline.wiki_id = blocked.database
    where blocked.user_id > 0 and coalesce(blocked.meta.domain, '') <> 'canary'
),

hidden as (
    -- Whatever the time: a snapshot does not tell which names are hidden.
    select
        database as wiki_id,
        user_id,
        max({'at': meta.dt, 'hidden': blocks.name}) as latest,
        max(_ingested_at) as ingested_at
    from blockings
    group by database, user_id
),

told as (
    select
        changed.wiki_id,
        changed.user.user_id as user_id,
        changed.meta.id as event_meta_id,
        changed.user_change_kind as event_type,
        changed.dt as event_timestamp,
        coalesce(changed.meta.dt, changed.dt) as received,
        changed.performer.user_id as event_user_id,
        changed.performer.user_central_id as event_user_central_id,
        changed.performer.user_text as event_user_text_historical,
        changed.performer.is_temp as event_user_is_temporary,
        changed.performer.registration_dt as event_user_registration_timestamp,
        changed.performer.edit_count as event_user_revision_count,
        changed.performer.groups as event_user_groups_historical,
        changed.user.user_central_id as user_central_id,
        changed.user.user_text as user_text_historical,
        changed.user.is_temp as user_is_temporary,
        changed.user.groups as user_groups_historical,
        cast(null as varchar[]) as user_blocks_historical,
        coalesce(changed.is_autocreate, false) as by_system,
        coalesce(changed.performer.user_id = changed.user.user_id, false) as by_itself,
        changed._topic,
        changed._partition,
        changed._offset,
        changed._ingested_at
    from mediawiki.user_change as changed
    left join mediawiki.history_baseline as baseline on baseline.wiki_id = changed.wiki_id
    where coalesce(changed.meta.domain, '') <> 'canary'
        and changed.meta.id is not null
        and (baseline.holds_until is null or changed.dt >= baseline.holds_until)
    union all by name
    select
        database as wiki_id,
        user_id,
        meta.id as event_meta_id,
        'alterblocks' as event_type,
        meta.dt as event_timestamp,
        meta.dt as received,
        performer.user_id as event_user_id,
        performer.user_text as event_user_text_historical,
        performer.user_registration_dt as event_user_registration_timestamp,
        performer.user_edit_count as event_user_revision_count,
        performer.user_groups as event_user_groups_historical,
        user_text as user_text_historical,
        user_groups as user_groups_historical,
        list_where(
            ['name', 'email', 'user_talk', 'account_create', 'sitewide'],
            [blocks.name, blocks.email, blocks.user_talk, blocks.account_create, coalesce(blocks.sitewide, false)]
        ) as user_blocks_historical,
        _topic,
        _partition,
        _offset,
        _ingested_at
    from blockings
    where meta.id is not null and (holds_until is null or meta.dt >= holds_until)
),

once as (
    select *, max(_ingested_at) over (partition by wiki_id, user_id, event_meta_id) as ingested_at
    from told
    qualify row_number() over (
        partition by wiki_id, user_id, event_meta_id
        order by event_type = 'alterblocks', received desc, event_timestamp desc, _topic desc, _partition desc, _offset desc
    ) = 1
),

events as (
    select
        'events' as source,
        wiki_id,
        user_id,
        cast(user_id as varchar) || '-' || event_meta_id as event_key,
        event_type,
        event_timestamp,
        nullif(event_user_id, 0) as event_user_id,
        event_user_central_id,
        event_user_text_historical,
        event_user_is_temporary,
        event_user_registration_timestamp,
        event_user_revision_count,
        event_user_groups_historical,
        user_central_id,
        user_text_historical,
        coalesce(user_is_temporary, false) as user_is_temporary,
        user_groups_historical,
        user_blocks_historical,
        not by_system and by_itself as by_self,
        by_system,
        not by_system and not by_itself as by_peer,
        event_meta_id,
        ingested_at
    from once
    union all by name
    select
        'snapshot' as source,
        held.wiki_id,
        held.user_id,
        cast(held.user_id as varchar) || '-snapshot-' || held.event_key as event_key,
        held.event_type,
        held.event_timestamp,
        nullif(held.event_user_id, 0) as event_user_id,
        held.event_user_central_id,
        held.event_user_text_historical,
        held.event_user_is_temporary,
        held.event_user_registration_timestamp,
        held.event_user_revision_count,
        held.event_user_groups_historical,
        held.user_central_id,
        held.user_text_historical,
        coalesce(held.user_is_temporary, false) as user_is_temporary,
        held.user_groups_historical,
        held.user_blocks_historical,
        held.user_is_created_by_self as by_self,
        held.user_is_created_by_system as by_system,
        held.user_is_created_by_peer as by_peer,
        baseline.landed_at as ingested_at
    from mediawiki.history_snapshot as held
    join mediawiki.history_baseline as baseline on baseline.wiki_id = held.wiki_id and baseline.snapshot = held._slice
    where held.event_entity = 'user' and held.user_id is not null and held.event_timestamp < baseline.holds_until
    qualify row_number() over (
        partition by held.wiki_id, held.user_id, held.event_key
        order by held._landed_at desc, held._file_name desc, held._line desc nulls last
    ) = 1
),

now as (
    select
        *,
        first_value(user_text_historical) over (
            partition by wiki_id, user_id order by event_timestamp desc, event_key desc
        ) as user_text,
        bool_or(case when event_type = 'create' then by_self end) over (partition by wiki_id, user_id) as created_by_self,
        bool_or(case when event_type = 'create' then by_system end) over (partition by wiki_id, user_id) as created_by_system,
        bool_or(case when event_type = 'create' then by_peer end) over (partition by wiki_id, user_id) as created_by_peer,
        max(ingested_at) over (partition by wiki_id, user_id) as account_ingested_at
    from events
)

select
    now.source,
    now.wiki_id,
    now.user_id,
    now.event_key,
    now.event_type,
    now.event_timestamp,
    now.event_user_id,
    now.event_user_central_id,
    now.event_user_text_historical,
    now.event_user_is_temporary,
    now.event_user_registration_timestamp,
    now.event_user_revision_count,
    now.event_user_groups_historical,
    case when not coalesce(hidden.latest.hidden, false) then now.user_central_id end as user_central_id,
    case when not coalesce(hidden.latest.hidden, false) then now.user_text_historical end as user_text_historical,
    case when not coalesce(hidden.latest.hidden, false) then now.user_text end as user_text,
    now.user_is_temporary,
    now.user_groups_historical,
    now.user_blocks_historical,
    now.created_by_self as user_is_created_by_self,
    now.created_by_system as user_is_created_by_system,
    now.created_by_peer as user_is_created_by_peer,
    now.event_meta_id,
    greatest(now.account_ingested_at, hidden.ingested_at, baseline.landed_at) as row_update_dt
from now
left join hidden on hidden.wiki_id = now.wiki_id and hidden.user_id = now.user_id
left join mediawiki.history_baseline as baseline on baseline.wiki_id = now.wiki_id
