-- What was granted to each side of the world in each half of a fiscal year, sides as grant officers typed them.

select
    make_date(calendar_year, case when month(awarded_on) >= 7 then 12 else 6 end, 1) as half_ending,
    global_south,
    cast(sum(usd_over_grant_life) as decimal(18, 2)) as amount_usd,
    count(*) as grants
from movement_insights.grants_input_metrics
where not blocklisted and global_south is not null
group by half_ending, global_south
