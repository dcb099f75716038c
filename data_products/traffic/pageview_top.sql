-- The thousand most viewed pages of each project and UTC day, for all means of access together and for each.

with daily as (
    select day, project, access, article, cast(sum(views) as bigint) as views
    from traffic.pageview_per_article
    where agent = 'user'
    group by day, project, access, article
    union all
    select day, project, 'all-access' as access, article, cast(sum(views) as bigint) as views
    from traffic.pageview_per_article
    where agent = 'user'
    group by day, project, article
)

select
    day,
    project,
    access,
    cast(row_number() over (partition by day, project, access order by views desc, article) as integer) as rank,
    article,
    views
from daily
qualify rank <= 1000
