-- Each revision once, from its wiki's snapshot or the event of it that was received last, with its visibility and tags of now.
--
-- Nothing here needs the page's other revisions, so a change of visibility of an old revision recomputes that one alone. The rules are in
-- docs/products/history.md.

with said as (
    select
        told.wiki_id,
        told.revision.rev_id as revision_id,
        told.page.page_id as page_id,
        told.revision.rev_dt as event_timestamp,
        coalesce(told.revision.editor, told.performer) as editor,
        case when coalesce(told.page.namespace_id, 0) <> 0
            then regexp_replace(told.page.page_title, '^[^:]+:', '') else told.page.page_title
        end as page_title_historical,
        told.page.namespace_id as page_namespace_historical,
        told.revision.rev_parent_id as revision_parent_id,
        told.revision.is_minor_edit as revision_minor_edit,
        told.revision.rev_size as revision_text_bytes,
        told.revision.rev_size
            - coalesce(told.prior_state.revision.rev_size, case when told.page_change_kind = 'create' then 0 end) as revision_text_bytes_diff,
        told.revision.rev_sha1 as revision_text_sha1,
        max(told._ingested_at) over (partition by told.wiki_id, told.revision.rev_id) as ingested_at
    from mediawiki.page_change as told
    left join mediawiki.history_baseline as baseline on baseline.wiki_id = told.wiki_id
    where told.page_change_kind in ('create', 'edit')
        and coalesce(told.meta.domain, '') <> 'canary'
        and (baseline.holds_until is null or told.revision.rev_dt >= baseline.holds_until)
    qualify row_number() over (
        partition by told.wiki_id, told.revision.rev_id
        order by
            coalesce(told.meta.dt, told.dt) desc, told.dt desc, told.meta.id desc nulls last,
            told._topic desc, told._partition desc, told._offset desc
    ) = 1
),

snapshot as (
    select held.*, baseline.landed_at
    from mediawiki.history_snapshot as held
    join mediawiki.history_baseline as baseline on baseline.wiki_id = held.wiki_id and baseline.snapshot = held._slice
    where held.event_entity = 'revision' and held.revision_id is not null and held.page_id is not null
        and held.event_timestamp < baseline.holds_until
    qualify row_number() over (
        partition by held.wiki_id, held.revision_id
        order by held._landed_at desc, held._file_name desc, held._line desc nulls last, held.event_key desc
    ) = 1
),

statements as (
    -- What is said of a revision's visibility and when; null of a part is no statement.
    select
        said.wiki_id,
        said.revision.rev_id as revision_id,
        said.dt as stated_at,
        not said.revision.is_content_visible as text_hidden,
        not said.revision.is_comment_visible as comment_hidden,
        not said.revision.is_editor_visible as user_hidden,
        said._ingested_at as ingested_at
    from mediawiki.page_change as said
    left join mediawiki.history_baseline as baseline on baseline.wiki_id = said.wiki_id
    where coalesce(said.meta.domain, '') <> 'canary' and (baseline.holds_until is null or said.dt >= baseline.holds_until)
    union all
    select
        changed.database,
        changed.rev_id,
        changed.meta.dt,
        not changed.visibility.text,
        not changed.visibility.comment,
        not changed.visibility.user,
        changed._ingested_at
    from mediawiki.revision_visibility_change as changed
    left join mediawiki.history_baseline as baseline on baseline.wiki_id = changed.database
    where coalesce(changed.meta.domain, '') <> 'canary'
        and (baseline.holds_until is null or changed.meta.dt >= baseline.holds_until)
),

visibility as (
    -- The latest statement of each part; hidden is greater than visible, so it wins within one instant.
    select
        wiki_id,
        revision_id,
        max({'at': stated_at, 'hidden': text_hidden}) filter (where text_hidden is not null) as text,
        max({'at': stated_at, 'hidden': comment_hidden}) filter (where comment_hidden is not null) as comment,
        max({'at': stated_at, 'hidden': user_hidden}) filter (where user_hidden is not null) as user_name,
        max(ingested_at) as ingested_at
    from statements
    group by wiki_id, revision_id
),

tags as (
    select
        tagged.database as wiki_id,
        tagged.rev_id as revision_id,
        coalesce(tagged.tags, []) as tags,
        max(tagged._ingested_at) over (partition by tagged.database, tagged.rev_id) as ingested_at
    from mediawiki.revision_tags_change as tagged
    left join mediawiki.history_baseline as baseline on baseline.wiki_id = tagged.database
    where coalesce(tagged.meta.domain, '') <> 'canary'
        and (baseline.holds_until is null or tagged.meta.dt >= baseline.holds_until)
    qualify row_number() over (
        partition by tagged.database, tagged.rev_id
        order by tagged.meta.dt desc, tagged.meta.id desc nulls last, tagged._topic desc, tagged._partition desc, tagged._offset desc
    ) = 1
),

revisions as (
    select
        'snapshot' as source,
        snapshot.wiki_id,
        snapshot.revision_id,
        snapshot.page_id,
        snapshot.event_timestamp,
        nullif(snapshot.event_user_id, 0) as event_user_id,
        snapshot.event_user_central_id,
        snapshot.event_user_text_historical,
        snapshot.event_user_is_temporary,
        snapshot.event_user_registration_timestamp,
        snapshot.event_user_revision_count,
        snapshot.event_user_groups_historical,
        snapshot.page_title_historical,
        snapshot.page_namespace_historical,
        snapshot.page_title,
        snapshot.page_namespace,
        snapshot.page_is_deleted,
        snapshot.revision_parent_id,
        snapshot.revision_minor_edit,
        snapshot.revision_text_bytes,
        snapshot.revision_text_bytes_diff,
        snapshot.revision_text_sha1,
        coalesce(snapshot.revision_deleted_parts, []) as deleted_parts,
        snapshot.revision_is_identity_reverted,
        snapshot.revision_first_identity_reverting_revision_id,
        snapshot.revision_seconds_to_identity_revert,
        snapshot.revision_is_identity_revert,
        snapshot.revision_is_deleted_by_page_deletion,
        snapshot.revision_tags,
        snapshot.landed_at as ingested_at
    from snapshot
    union all by name
    select
        'events' as source,
        said.wiki_id,
        said.revision_id,
        said.page_id,
        said.event_timestamp,
        nullif(said.editor.user_id, 0) as event_user_id,
        said.editor.user_central_id as event_user_central_id,
        said.editor.user_text as event_user_text_historical,
        said.editor.is_temp as event_user_is_temporary,
        said.editor.registration_dt as event_user_registration_timestamp,
        said.editor.edit_count as event_user_revision_count,
        said.editor.groups as event_user_groups_historical,
        said.page_title_historical,
        said.page_namespace_historical,
        said.revision_parent_id,
        said.revision_minor_edit,
        said.revision_text_bytes,
        said.revision_text_bytes_diff,
        said.revision_text_sha1,
        [] as deleted_parts,
        said.ingested_at
    from said
    anti join snapshot on snapshot.wiki_id = said.wiki_id and snapshot.revision_id = said.revision_id
)

select
    revisions.source,
    revisions.wiki_id,
    revisions.revision_id,
    revisions.page_id,
    revisions.event_timestamp,
    revisions.event_user_id,
    revisions.event_user_central_id,
    revisions.event_user_text_historical,
    revisions.event_user_is_temporary,
    revisions.event_user_registration_timestamp,
    revisions.event_user_revision_count,
    revisions.event_user_groups_historical,
    revisions.page_title_historical,
    cast(revisions.page_namespace_historical as integer) as page_namespace_historical,
    revisions.page_title,
    revisions.page_namespace,
    revisions.page_is_deleted,
    revisions.revision_parent_id,
    revisions.revision_minor_edit,
    revisions.revision_text_bytes,
    revisions.revision_text_bytes_diff,
    revisions.revision_text_sha1,
    list_where(['text', 'comment', 'user'], [
        coalesce(visibility.text.hidden, list_contains(revisions.deleted_parts, 'text')),
        coalesce(visibility.comment.hidden, list_contains(revisions.deleted_parts, 'comment')),
        coalesce(visibility.user_name.hidden, list_contains(revisions.deleted_parts, 'user'))
    ]) as revision_deleted_parts,
    revisions.revision_is_identity_reverted,
    revisions.revision_first_identity_reverting_revision_id,
    revisions.revision_seconds_to_identity_revert,
    revisions.revision_is_identity_revert,
    revisions.revision_is_deleted_by_page_deletion,
    coalesce(tags.tags, revisions.revision_tags) as revision_tags,
    greatest(revisions.ingested_at, visibility.ingested_at, tags.ingested_at, baseline.landed_at) as row_update_dt
from revisions
left join visibility on visibility.wiki_id = revisions.wiki_id and visibility.revision_id = revisions.revision_id
left join tags on tags.wiki_id = revisions.wiki_id and tags.revision_id = revisions.revision_id
left join mediawiki.history_baseline as baseline on baseline.wiki_id = revisions.wiki_id
