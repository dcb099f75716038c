-- Every revision of every page that exists, with its text, as it may be seen now.
--
-- Dumps and events tell facts, each as of a time: a dump as of the day it is named after, an event as of when it happened. Of two facts
-- about the same thing the later one holds, in whatever order they came; of two of the same time an event's before a dump's, a change of
-- visibility before both, and what hides before what shows. Everything about a page is computed from all that was told of it.

with told as (
    -- What was told of single revisions, without their texts: what is compared here is small. A deletion tells nothing of a revision.
    select
        wiki_id, page_id, revision_id,
        cast(_slice as timestamptz) as as_of, 0 as source, cast(null as timestamptz) as received, concat(_file_name, ' ', _line) as id,
        user_is_visible, revision_comment_is_visible as comment_is_visible, revision_content_is_visible as content_is_visible,
        revision_parent_id as parent_id, revision_dt, revision_is_minor_edit as is_minor, user_id, user_text, revision_comment as comment
    from content.pages_dump
    union all
    select
        wiki_id, page.page_id, revision.rev_id, dt, 1, meta.dt, meta.id,
        revision.is_editor_visible, revision.is_comment_visible, revision.is_content_visible,
        nullif(revision.rev_parent_id, 0), revision.rev_dt, coalesce(revision.is_minor_edit, false),
        revision.editor.user_id, revision.editor.user_text, coalesce(revision.comment, '')
    from mediawiki.page_content_change
    where page_change_kind <> 'delete' and coalesce(meta.domain, '') <> 'canary'
    union all
    select
        database, page_id, rev_id, meta.dt, 2, meta.dt, meta.id,
        visibility.user, visibility.comment, visibility.text,
        null, null, null, null, null, null
    from mediawiki.revision_visibility_change
    where coalesce(meta.domain, '') <> 'canary'
    union all
    select
        wiki_id, page_id, revision_id, dt, 2, dt, event_id,
        user_is_visible, revision_comment_is_visible, revision_content_is_visible,
        null, null, null, null, null, null
    from content.visibility_elsewhere
),

ordered as (
    -- An event that does not tell what may be seen leaves that as it was told last; of a revision it never was, all may be.
    select
        *,
        row_number() over by_time as n,
        coalesce(last_value(user_is_visible ignore nulls) over by_time, true) as shows_user,
        coalesce(last_value(comment_is_visible ignore nulls) over by_time, true) as shows_comment,
        coalesce(last_value(content_is_visible ignore nulls) over by_time, true) as shows_content,
        max(case when source = 0 then as_of end) over (partition by wiki_id, page_id) as dumped_at
    from told
    window by_time as (
        partition by wiki_id, page_id, revision_id
        order by
            as_of, source, received nulls first,
            user_is_visible desc nulls first, comment_is_visible desc nulls first, content_is_visible desc nulls first,
            id nulls first, revision_dt, is_minor, parent_id, user_id, user_text, comment
        rows between unbounded preceding and current row
    )
),

turned as (
    select
        *,
        coalesce(
            lag(shows_user) over by_time <> shows_user
            or lag(shows_comment) over by_time <> shows_comment
            or lag(shows_content) over by_time <> shows_content,
            true
        ) as is_turn
    from ordered
    window by_time as (partition by wiki_id, page_id, revision_id order by n)
),

revisions as (
    -- A dump tells the whole past of its pages: a revision that was last told of before its page's newest dump, and is not in that one,
    -- is gone. A change of visibility alone makes no row.
    select
        wiki_id, page_id, revision_id,
        arg_max({author: shows_user, comment: shows_comment, content: shows_content}, n) as visible,
        max(case when is_turn then as_of end) as turned_at,
        max(case when source < 2 then as_of end) as told_at,
        min(case when source < 2 then as_of end) as came_at,
        arg_min(case when source < 2 then source end, n) as came_by,
        arg_max(case when source < 2 then {parent: parent_id, dt: revision_dt, is_minor: is_minor} end, n) as saved,
        arg_max(case when source < 2 and user_is_visible is not false then {id: user_id, name: user_text} end, n) as author,
        arg_max(case when source < 2 and comment_is_visible is not false then comment end, n) as comment
    from turned
    group by wiki_id, page_id, revision_id
    having max(case when source < 2 then as_of end) >= coalesce(max(dumped_at), max(case when source < 2 then as_of end))
),

told_of_pages as (
    select
        wiki_id, page_id, cast(_slice as timestamptz) as as_of, 0 as source, cast(null as timestamptz) as received, cast(null as varchar) as id,
        max(page_namespace_id) as namespace_id, max(page_title) as title, max(page_redirect_target) as target, true as is_there
    from content.pages_dump
    group by wiki_id, page_id, _slice
    union all
    select
        wiki_id, page.page_id, dt, 1, meta.dt, meta.id,
        page.namespace_id, page.page_title,
        coalesce(page.redirect_page_link.interwiki_prefix || ':', '') || page.redirect_page_link.page_title,
        page_change_kind <> 'delete'
    from mediawiki.page_content_change
    where coalesce(meta.domain, '') <> 'canary'
),

titled as (
    select
        * replace (replace(title, ' ', '_') as title, replace(target, ' ', '_') as target),
        row_number() over by_time as n,
        lag(replace(title, ' ', '_')) over by_time <> replace(title, ' ', '_') as is_move
    from told_of_pages
    window by_time as (
        partition by wiki_id, page_id
        order by as_of, source, received nulls first, id nulls first, is_there desc, namespace_id, title, target
    )
),

pages as (
    select
        wiki_id, page_id,
        coalesce(arg_max(namespace_id, n), 0) as namespace_id,
        arg_max({title: title, target: target}, n) as named,
        max(case when is_move then as_of end) as moved_at
    from titled
    group by wiki_id, page_id
    having arg_max(is_there, n)
),

texts as (
    -- The slots of the freshest fact that has all of them whole, so that what is shown again is there again.
    select *
    from (
        select
            wiki_id, page_id, revision_id,
            cast(_slice as timestamptz) as as_of, 0 as source, cast(null as timestamptz) as received, concat(_file_name, ' ', _line) as id,
            revision_sha1 as sha1, revision_size as size, revision_content_slots as slots,
            revision_content_is_visible as may_be_seen
        from content.pages_dump
        union all
        select
            wiki_id, page.page_id, revision.rev_id, dt, 1, meta.dt, meta.id,
            revision.rev_sha1, revision.rev_size,
            coalesce(map_from_entries(list_transform(map_entries(revision.content_slots), lambda slot: {
                key: slot.key,
                value: {
                    content_body: slot.value.content_body, content_format: slot.value.content_format,
                    content_model: slot.value.content_model, content_sha1: slot.value.content_sha1,
                    content_size: slot.value.content_size, origin_rev_id: slot.value.origin_rev_id
                }
            })), map()),
            coalesce(revision.is_content_visible, true)
        from mediawiki.page_content_change
        where page_change_kind <> 'delete' and coalesce(meta.domain, '') <> 'canary'
    )
    qualify row_number() over (
        partition by wiki_id, page_id, revision_id
        order by
            may_be_seen and len(map_keys(slots)) > 0
                and len(list_filter(map_values(slots), lambda slot: slot.content_body is null)) = 0 desc,
            len(map_keys(slots)) > 0 desc,
            as_of desc, source desc, received desc nulls last, id desc nulls last, sha1, size
    ) = 1
)

select
    revisions.wiki_id,
    revisions.page_id,
    cast(pages.namespace_id as integer) as page_namespace_id,
    pages.named.title as page_title,
    pages.named.target as page_redirect_target,
    case when visible.author then author.id end as user_id,
    case when visible.author then author.name end as user_text,
    visible.author as user_is_visible,
    revisions.revision_id,
    saved.parent as revision_parent_id,
    saved.dt as revision_dt,
    saved.is_minor as revision_is_minor_edit,
    case when visible.comment then comment end as revision_comment,
    visible.comment as revision_comment_is_visible,
    case when visible.content then sha1 end as revision_sha1,
    case when visible.content then size end as revision_size,
    case when visible.content then slots else map_from_entries(list_transform(map_entries(slots), lambda slot: {
        key: slot.key,
        value: {
            content_body: cast(null as varchar), content_format: slot.value.content_format, content_model: slot.value.content_model,
            content_sha1: cast(null as varchar), content_size: cast(null as bigint), origin_rev_id: slot.value.origin_rev_id
        }
    })) end as revision_content_slots,
    visible.content as revision_content_is_visible,
    told_at as row_content_update_dt,
    turned_at as row_visibility_update_dt,
    case
        when came_by = 1 then greatest(came_at, coalesce(moved_at, came_at))
        when moved_at > came_at then moved_at
    end as row_move_update_dt
from texts
join revisions on
    revisions.wiki_id = texts.wiki_id and revisions.page_id = texts.page_id and revisions.revision_id = texts.revision_id
join pages on pages.wiki_id = revisions.wiki_id and pages.page_id = revisions.page_id
