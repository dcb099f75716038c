-- The actors of each hour whose pageviews no person makes: more than 800, or ten and more at 30 a minute.
--
-- One row per actor and hour. Who already says to be a spider is not asked again.

select
    actor,
    date_trunc('hour', dt) as hour,
    count(*) as view_count
from traffic.pageview
where agent_type = 'user'
group by actor, hour
having count(*) > 800
    or count(*) >= 10 and count(*) * 2000000 >= date_diff('microsecond', min(dt), max(dt))
