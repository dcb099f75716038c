-- How often each page was viewed in each UTC hour, by how and by whom. No reader and no country is in it, so it can be public.

select
    date_trunc('hour', view.dt) as hour,
    view.project,
    view.language_variant,
    view.page_title,
    view.access_method,
    case when actor.actor is not null then 'automated' else view.agent_type end as agent_type,
    view.referer_class,
    max(view.page_id) as page_id,
    max(view.namespace_id) as namespace_id,
    count(*) as view_count
from traffic.pageview as view
left join traffic.automated_actor as actor
    on actor.hour = date_trunc('hour', view.dt) and actor.actor = case when view.agent_type = 'user' then view.actor end
group by all
