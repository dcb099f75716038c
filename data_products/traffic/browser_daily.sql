-- With which browsers people read on each UTC day. What too few use to hide among is counted as Other.

with browsers as (
    select
        cast(dt as date) as day,
        access_method as access,
        browser_family,
        browser_major,
        os_family,
        count(*) as views
    from traffic.pageview_agent
    where agent_type = 'user' and device_family <> 'Spider'
    group by all
)

select
    day,
    access,
    case when views >= 100 then browser_family else 'Other' end as browser_family,
    case when views >= 100 then browser_major else '-' end as browser_major,
    case when views >= 100 then os_family else 'Other' end as os_family,
    cast(sum(views) as bigint) as views
from browsers
group by all
