-- What was granted to each country in each fiscal year.

select
    fiscal_year_ending,
    country_code,
    max(country_name) as location,
    cast(sum(usd_over_grant_life) as decimal(18, 2)) as amount_usd,
    count(*) as grants
from movement_insights.grants_input_metrics
where not blocklisted and country_code is not null
group by fiscal_year_ending, country_code
