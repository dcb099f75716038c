-- Revisions of which dump, events and history do not tell the same. It reads ids and times alone, of all wikis, once a day.

with newest as (
    select wiki_id, cast(max(_slice) as timestamptz) as day
    from content.pages_dump
    group by wiki_id
),

dumped as (
    select dump.wiki_id, dump.page_id, dump.revision_id, max(dump.revision_dt) as revision_dt, max(newest.day) as day
    from content.pages_dump as dump
    join newest on newest.wiki_id = dump.wiki_id and newest.day = cast(dump._slice as timestamptz)
    group by dump.wiki_id, dump.page_id, dump.revision_id
),

events as (
    select wiki_id, page.page_id as page_id, revision.rev_id as revision_id, dt, page_change_kind as kind
    from mediawiki.page_content_change
    where coalesce(meta.domain, '') <> 'canary'
),

told as (
    select wiki_id, page_id, revision_id, max(dt) as last_dt
    from events
    where kind <> 'delete'
    group by wiki_id, page_id, revision_id
),

began as (
    select wiki_id, min(dt) as first_dt
    from events
    group by wiki_id
),

deleted as (
    -- Pages whose last event before the newest dump was their deletion: that they are not in it is right. It may be of those that were
    -- deleted since, too: a dump takes days to make.
    select events.wiki_id, events.page_id
    from events
    join newest on newest.wiki_id = events.wiki_id
    group by events.wiki_id, events.page_id
    having max(case when kind = 'delete' then dt end) >= max(case when dt < newest.day then dt end)
)

select dumped.wiki_id, dumped.page_id, dumped.revision_id, 'no_event' as reason, dumped.day as known_dt
from dumped
join began on began.wiki_id = dumped.wiki_id and began.first_dt <= dumped.revision_dt
anti join told on told.wiki_id = dumped.wiki_id and told.page_id = dumped.page_id and told.revision_id = dumped.revision_id

union all

select told.wiki_id, told.page_id, told.revision_id, 'not_in_dump', newest.day
from told
join newest on newest.wiki_id = told.wiki_id and told.last_dt < newest.day
anti join dumped on dumped.wiki_id = told.wiki_id and dumped.page_id = told.page_id and dumped.revision_id = told.revision_id
anti join deleted on deleted.wiki_id = told.wiki_id and deleted.page_id = told.page_id

union all

select child.wiki_id, child.page_id, child.revision_parent_id, 'no_row', min(child.row_content_update_dt)
from content.history as child
anti join content.history as parent on parent.wiki_id = child.wiki_id and parent.revision_id = child.revision_parent_id
where child.revision_parent_id is not null
group by child.wiki_id, child.page_id, child.revision_parent_id
