-- Revisions, events of pages and events of accounts in one table, with the names that may be shown, and without wikis that are not public.
--
-- Each row depends on one row of the three histories, so a change anywhere recomputes the events it touched and no more. The rules are in
-- docs/products/history.md.

with wikis as (
    select dbname as wiki_id from mediawiki.project_namespace_map__current group by dbname
),

namespaces as (
    select dbname as wiki_id, namespace, max(namespace_is_content) = 1 as is_content
    from mediawiki.project_namespace_map__current
    group by dbname, namespace
),

events as (
    select
        source,
        wiki_id,
        'revision' as event_entity,
        'create' as event_type,
        cast(revision_id as varchar) as event_key,
        event_timestamp,
        event_user_id,
        event_user_central_id,
        event_user_text_historical,
        event_user_is_temporary,
        event_user_registration_timestamp,
        event_user_revision_count,
        event_user_groups_historical,
        cast(null as bigint) as user_id,
        cast(null as bigint) as user_central_id,
        cast(null as varchar) as user_text_historical,
        cast(null as varchar) as user_text,
        cast(null as boolean) as user_is_temporary,
        cast(null as varchar[]) as user_groups_historical,
        cast(null as varchar[]) as user_blocks_historical,
        cast(null as boolean) as user_is_created_by_self,
        cast(null as boolean) as user_is_created_by_system,
        cast(null as boolean) as user_is_created_by_peer,
        page_id,
        page_title_historical,
        page_title,
        page_namespace_historical,
        page_namespace,
        page_is_deleted,
        page_merged_into_page_id,
        revision_id,
        revision_parent_id,
        revision_minor_edit,
        revision_text_bytes,
        revision_text_bytes_diff,
        revision_text_sha1,
        revision_deleted_parts,
        revision_is_identity_reverted,
        revision_first_identity_reverting_revision_id,
        revision_seconds_to_identity_revert,
        revision_is_identity_revert,
        revision_is_deleted_by_page_deletion,
        revision_tags,
        cast(null as varchar) as event_meta_id,
        row_update_dt
    from mediawiki.revision_history
    union all by name
    select
        source,
        wiki_id,
        'page' as event_entity,
        event_type,
        event_key,
        event_timestamp,
        event_user_id,
        event_user_central_id,
        event_user_text_historical,
        event_user_is_temporary,
        event_user_registration_timestamp,
        event_user_revision_count,
        event_user_groups_historical,
        page_id,
        page_title_historical,
        page_title,
        page_namespace_historical,
        page_namespace,
        page_is_deleted,
        page_merged_into_page_id,
        event_meta_id,
        row_update_dt
    from mediawiki.page_history
    union all by name
    select
        source,
        wiki_id,
        'user' as event_entity,
        event_type,
        event_key,
        event_timestamp,
        event_user_id,
        event_user_central_id,
        event_user_text_historical,
        event_user_is_temporary,
        event_user_registration_timestamp,
        event_user_revision_count,
        event_user_groups_historical,
        user_id,
        user_central_id,
        user_text_historical,
        user_text,
        user_is_temporary,
        user_groups_historical,
        user_blocks_historical,
        user_is_created_by_self,
        user_is_created_by_system,
        user_is_created_by_peer,
        event_meta_id,
        row_update_dt
    from mediawiki.user_history
),

judged as (
    select
        events.*,
        case when actors.event_key is not null then actors.event_user_text else events.event_user_text_historical end as event_user_text,
        not coalesce(list_contains(events.revision_deleted_parts, 'user'), false)
            and not coalesce(actors.event_user_is_hidden, false) as is_shown,
        is_shown and (events.event_user_id is not null or events.event_user_text_historical is not null) as is_known,
        -- a row that hides who did it does not tell when that account changed
        greatest(
            events.row_update_dt,
            case when not coalesce(list_contains(events.revision_deleted_parts, 'user'), false) then actors.row_update_dt end
        ) as updated_at
    from events
    left join mediawiki.actor_name as actors
        on actors.wiki_id = events.wiki_id and actors.event_entity = events.event_entity and actors.event_key = events.event_key
)

select
    judged.source,
    judged.wiki_id,
    judged.event_entity,
    judged.event_type,
    judged.event_key,
    judged.event_timestamp,
    case when judged.is_shown then judged.event_user_id end as event_user_id,
    case when judged.is_shown then judged.event_user_central_id end as event_user_central_id,
    case when judged.is_shown then judged.event_user_text_historical end as event_user_text_historical,
    case when judged.is_shown then judged.event_user_text end as event_user_text,
    case when judged.is_known then list_where(['name', 'group'], [
        coalesce(regexp_matches(judged.event_user_text_historical, '[bB][oO][tT]([^a-zA-Z]|$)'), false),
        coalesce(list_contains(judged.event_user_groups_historical, 'bot'), false)
    ]) end as event_user_is_bot_by_historical,
    case when judged.is_known then judged.event_user_id is null end as event_user_is_anonymous,
    case when judged.is_known then coalesce(judged.event_user_is_temporary, false) end as event_user_is_temporary,
    case when judged.is_known
        then judged.event_user_id is not null and not coalesce(judged.event_user_is_temporary, false)
    end as event_user_is_permanent,
    case when judged.is_shown then judged.event_user_registration_timestamp end as event_user_registration_timestamp,
    case when judged.is_shown then judged.event_user_revision_count end as event_user_revision_count,
    case when judged.is_shown then judged.event_user_groups_historical end as event_user_groups_historical,
    case when judged.is_shown and judged.event_user_text_historical is not null
        then contains(judged.event_user_text_historical, '>')
            and judged.event_user_id is null and not coalesce(judged.event_user_is_temporary, false)
    end as event_user_is_cross_wiki,
    judged.user_id,
    judged.user_central_id,
    judged.user_text_historical,
    judged.user_text,
    case when judged.event_entity = 'user' then false end as user_is_anonymous,
    judged.user_is_temporary,
    not judged.user_is_temporary as user_is_permanent,
    judged.user_groups_historical,
    case when judged.user_text_historical is not null then list_where(['name', 'group'], [
        regexp_matches(judged.user_text_historical, '[bB][oO][tT]([^a-zA-Z]|$)'),
        coalesce(list_contains(judged.user_groups_historical, 'bot'), false)
    ]) end as user_is_bot_by_historical,
    judged.user_blocks_historical,
    judged.user_is_created_by_self,
    judged.user_is_created_by_system,
    judged.user_is_created_by_peer,
    judged.page_id,
    judged.page_title_historical,
    judged.page_title,
    judged.page_namespace_historical,
    then_in.is_content as page_namespace_is_content_historical,
    judged.page_namespace,
    now_in.is_content as page_namespace_is_content,
    judged.page_is_deleted,
    judged.page_merged_into_page_id,
    judged.revision_id,
    judged.revision_parent_id,
    judged.revision_minor_edit,
    judged.revision_text_bytes,
    judged.revision_text_bytes_diff,
    judged.revision_text_sha1,
    judged.revision_deleted_parts,
    judged.revision_is_identity_reverted,
    judged.revision_first_identity_reverting_revision_id,
    judged.revision_seconds_to_identity_revert,
    judged.revision_is_identity_revert,
    judged.revision_is_deleted_by_page_deletion,
    judged.revision_tags,
    judged.event_meta_id,
    judged.updated_at as row_update_dt
from judged
join wikis on wikis.wiki_id = judged.wiki_id
left join namespaces as then_in
    on then_in.wiki_id = judged.wiki_id and then_in.namespace = judged.page_namespace_historical
left join namespaces as now_in
    on now_in.wiki_id = judged.wiki_id and now_in.namespace = judged.page_namespace
