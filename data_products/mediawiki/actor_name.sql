-- What name may be shown for the events of an account that was ever renamed or blocked (rules 7 and 8 of docs/products/history.md).
--
-- Its key is the actor, that of history is the event: so a new name is worked out once for the account and recomputes its own events only.

with known as (
    select
        wiki_id,
        user_id,
        true as has_row,
        user_text,
        event_type in ('rename', 'alterblocks') as is_notable,
        null as hidden,
        row_update_dt
    from mediawiki.user_history
    union all by name
    select
        database as wiki_id,
        user_id,
        false as has_row,
        true as is_notable,
        {'at': meta.dt, 'hidden': blocks.name} as hidden,
        _ingested_at as row_update_dt
    from mediawiki.user_blocks_change
    where user_id > 0 and coalesce(meta.domain, '') <> 'canary'
),

accounts as (
    select
        wiki_id,
        user_id,
        bool_or(has_row) as has_row,
        max(user_text) as user_text,
        max(hidden) as latest,
        max(row_update_dt) as row_update_dt
    from known
    group by wiki_id, user_id
    having bool_or(is_notable)
),

events as (
    select
        wiki_id,
        'revision' as event_entity,
        cast(revision_id as varchar) as event_key,
        event_user_id,
        event_user_text_historical
    from mediawiki.revision_history
    union all
    select wiki_id, 'page', event_key, event_user_id, event_user_text_historical from mediawiki.page_history
    union all
    select wiki_id, 'user', event_key, event_user_id, event_user_text_historical from mediawiki.user_history
)

select
    events.wiki_id,
    events.event_entity,
    events.event_key,
    events.event_user_id,
    case
        when accounts.latest.hidden then null
        when accounts.has_row then accounts.user_text
        else events.event_user_text_historical
    end as event_user_text,
    coalesce(accounts.latest.hidden, false) as event_user_is_hidden,
    accounts.row_update_dt
from events
join accounts on accounts.wiki_id = events.wiki_id and accounts.user_id = events.event_user_id
