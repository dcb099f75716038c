-- Changes of visibility, under every page that tells of their revision and is not the one that the change named: when a revision was moved
-- to another page, what is hidden there has to vanish under its former page too.

with standing as (
    select wiki_id, page_id, revision_id
    from content.pages_dump
    union
    select wiki_id, page.page_id, revision.rev_id
    from mediawiki.page_content_change
    where page_change_kind <> 'delete' and coalesce(meta.domain, '') <> 'canary'
),

changed as (
    select database as wiki_id, page_id, rev_id as revision_id, meta.dt as dt, meta.id as event_id, visibility
    from mediawiki.revision_visibility_change
    where coalesce(meta.domain, '') <> 'canary'
)

select
    changed.wiki_id,
    standing.page_id,
    changed.revision_id,
    changed.event_id,
    changed.page_id as named_page_id,
    changed.dt,
    changed.visibility.user as user_is_visible,
    changed.visibility.comment as revision_comment_is_visible,
    changed.visibility.text as revision_content_is_visible
from changed
join standing on standing.wiki_id = changed.wiki_id and standing.revision_id = changed.revision_id
where standing.page_id <> changed.page_id
