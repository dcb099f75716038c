-- What was granted under each programme in each half of a fiscal year.

select
    make_date(calendar_year, case when month(awarded_on) >= 7 then 12 else 6 end, 1) as half_ending,
    program,
    cast(sum(usd_over_grant_life) as decimal(18, 2)) as amount_usd,
    count(*) as grants
from movement_insights.grants_input_metrics
where not blocklisted
group by half_ending, program
