-- History for counting: each event that stands, and for each day and month a row per active editor and per active page.
--
-- The digests are what GROUPING SETS would give, said as joins with the wanted pairs of types, which lineage can follow; days and months
-- are queries of their own, so that every row's month can be traced to its events and one month is counted again at a time.

with projects as (
    select dbname as wiki_id, min(regexp_replace(regexp_replace(hostname, 'www\.', '', 'g'), '\.org', '', 'g')) as project
    from mediawiki.project_namespace_map__current
    group by dbname
),

namespaces as (
    select dbname as wiki_id, namespace, max(namespace_canonical_name) as name
    from mediawiki.project_namespace_map__current
    group by dbname, namespace
),

events as (
    select
        history.wiki_id,
        projects.project,
        history.event_entity,
        history.event_type,
        history.event_timestamp,
        history.event_user_text as user_text,
        case
            when history.event_user_is_anonymous or history.event_user_is_temporary then 'anonymous'
            when list_contains(history.event_user_is_bot_by_historical, 'group') then 'group_bot'
            when list_contains(history.event_user_is_bot_by_historical, 'name') then 'name_bot'
            else 'user'
        end as user_type,
        case when coalesce(namespaces.name, '') <> '' then namespaces.name || ':' || history.page_title else history.page_title end as page_title,
        history.page_namespace,
        case when coalesce(history.page_namespace_is_content, history.page_namespace_is_content_historical)
            then 'content' else 'non_content'
        end as page_type,
        list_where(['revert', 'reverted', 'self_created'], [
            coalesce(history.revision_is_identity_revert, false),
            coalesce(history.revision_is_identity_reverted, false),
            history.event_entity = 'user' and history.event_type = 'create' and coalesce(history.user_is_created_by_self, false)
        ]) as other_tags,
        history.revision_text_bytes_diff as text_bytes_diff,
        abs(history.revision_text_bytes_diff) as text_bytes_diff_abs,
        case when history.event_entity = 'revision' then 1 else 0 end as revisions,
        history.event_user_id as user_id,
        history.event_user_central_id as user_central_id,
        history.page_id,
        coalesce('#' || cast(history.event_user_id as varchar), history.event_user_text, '') as editor
    from mediawiki.history as history
    join projects on projects.wiki_id = history.wiki_id
    left join namespaces on namespaces.wiki_id = history.wiki_id and namespaces.namespace = history.page_namespace
    where not (history.event_entity = 'revision' and history.revision_is_deleted_by_page_deletion)
        and not (history.event_entity = 'page' and history.page_is_deleted)
),

types as (
    -- A row of four: user and page types as they are, or all of them.
    select by_user_type, by_page_type
    from unnest([true, false]) as users(by_user_type)
    cross join unnest([true, false]) as pages(by_page_type)
),

edits as (
    select
        events.wiki_id,
        events.project,
        events.event_timestamp,
        events.editor,
        events.page_id,
        case when types.by_user_type then events.user_type else 'all' end as user_type,
        case when types.by_page_type then events.page_type else 'all' end as page_type,
        events.text_bytes_diff,
        events.text_bytes_diff_abs
    from events
    cross join types
    where events.event_entity = 'revision'
),

digests as (
    select
        project, 'user' as event_entity, 'daily_digest' as event_type, date_trunc('day', event_timestamp) as event_timestamp,
        user_type, page_type, sum(text_bytes_diff) as text_bytes_diff, sum(text_bytes_diff_abs) as text_bytes_diff_abs, count(*) as revisions
    from edits
    group by wiki_id, project, date_trunc('day', event_timestamp), editor, user_type, page_type
    union all
    select
        project, 'user', 'monthly_digest', date_trunc('month', event_timestamp),
        user_type, page_type, sum(text_bytes_diff), sum(text_bytes_diff_abs), count(*)
    from edits
    group by wiki_id, project, date_trunc('month', event_timestamp), editor, user_type, page_type
    union all
    select
        project, 'page', 'daily_digest', date_trunc('day', event_timestamp),
        user_type, page_type, sum(text_bytes_diff), sum(text_bytes_diff_abs), count(*)
    from edits
    group by wiki_id, project, date_trunc('day', event_timestamp), page_id, user_type, page_type
    union all
    select
        project, 'page', 'monthly_digest', date_trunc('month', event_timestamp),
        user_type, page_type, sum(text_bytes_diff), sum(text_bytes_diff_abs), count(*)
    from edits
    group by wiki_id, project, date_trunc('month', event_timestamp), page_id, user_type, page_type
)

select
    project,
    event_entity,
    event_type,
    event_timestamp,
    user_text,
    user_type,
    page_title,
    page_namespace,
    page_type,
    other_tags,
    text_bytes_diff,
    text_bytes_diff_abs,
    revisions,
    user_id,
    user_central_id,
    page_id
from events
union all by name
select
    project,
    event_entity,
    event_type,
    event_timestamp,
    user_type,
    page_type,
    cast([] as varchar[]) as other_tags,
    cast(text_bytes_diff as bigint) as text_bytes_diff,
    cast(text_bytes_diff_abs as bigint) as text_bytes_diff_abs,
    revisions
from digests
