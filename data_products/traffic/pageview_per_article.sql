-- Views of each page on each UTC day, by means of access and kind of reader; what a page's graph of views is drawn from.

select
    cast(hour as date) as day,
    project,
    page_title as article,
    access_method as access,
    agent_type as agent,
    cast(sum(view_count) as bigint) as views
from traffic.pageview_hourly
where page_title <> '-'
group by day, project, article, access, agent
