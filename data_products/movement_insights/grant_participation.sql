-- What those who take part in a grant edited on each day of it, as far as they said who they are on the wikis.

with participant as (
    select
        request_id,
        country_code,
        starts_on,
        ends_on,
        unnest(participants) as user_name
    from movement_insights."grant"
    where state in ('granted', 'closed') and not blocklisted
)

select
    cast(change.dt as date) as day,
    participant.request_id,
    change.wiki_id,
    participant.user_name,
    max(participant.country_code) as country_code,
    count(distinct change.revision.rev_id) as edits
from mediawiki.page_change as change
inner join participant on participant.user_name = change.performer.user_text
where change.page_change_kind in ('create', 'edit')
    and coalesce(change.meta.domain, '') <> 'canary'
    and cast(change.dt as date) between participant.starts_on and participant.ends_on
group by cast(change.dt as date), participant.request_id, change.wiki_id, participant.user_name
