-- Views of each project by country and UTC day. Countries that are dangerous to their readers are left out, numbers made coarse, and
-- nothing is told of few readers, however much they read.

with views as (
    select
        cast(view.dt as date) as day,
        view.project,
        view.country_code,
        view.access_method as access,
        view.actor
    from traffic.pageview as view
    left join traffic.automated_actor as actor
        on actor.actor = view.actor and actor.hour = date_trunc('hour', view.dt) and cast(actor.hour as date) = cast(view.dt as date)
    where view.agent_type = 'user' and actor.actor is null
        and view.country_code not in (
            'AE', 'AF', 'AZ', 'BD', 'BH', 'BY', 'CN', 'CU', 'DJ', 'EG', 'ER', 'ET', 'HN', 'IQ', 'IR', 'KP', 'KW', 'KZ', 'LA', 'MM', 'MO', 'NI',
            'OM', 'PK', 'PS', 'RU', 'SA', 'SD', 'SY', 'TJ', 'TM', 'TR', 'UZ', 'VE', 'VN', 'YE'
        )
)

select
    day,
    project,
    country_code,
    access,
    cast(ceil(count(*) / 100.0) * 100 as bigint) as views_ceil
from views
group by day, project, country_code, access
having count(*) >= 100 and count(distinct actor) >= 10
