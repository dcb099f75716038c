-- What each country was granted by each year, against the product of its heads and against the years before.
--
-- A country has a row for each year from its first grant to the newest year of any: hence the whole is computed anew.

with awards as (
    select
        country_code,
        calendar_year,
        usd_over_grant_life as usd,
        dollar_weighted_current as weighted_current,
        dollar_weighted_constant as weighted_constant,
        lower(org_type) in ('chapter', 'thematic organization', 'user group') as is_affiliate
    from movement_insights.grants_input_metrics
    where country_code is not null and not blocklisted and calendar_year >= 2010
),

country_years as (
    select
        country_code,
        unnest(range(first_year, last_year + 1)) as year
    from (select country_code, min(calendar_year) as first_year from awards group by country_code)
    cross join (select max(calendar_year) as last_year from awards)
),

summed as (
    select
        place.country_code,
        place.year,
        sum(award.usd) as historical_usd,
        coalesce(sum(award.usd) filter (where award.calendar_year = place.year), 0) as annual_usd,
        count(*) as historical_grants,
        count(*) filter (where award.calendar_year = place.year) as annual_grants,
        coalesce(sum(award.weighted_constant), 0) as historical_weighted,
        coalesce(sum(award.weighted_current) filter (where award.calendar_year = place.year), 0) as annual_weighted,
        coalesce(sum(award.usd) filter (where award.calendar_year > place.year - 5), 0) as last_5_years,
        coalesce(sum(award.usd) filter (where award.calendar_year between place.year - 9 and place.year - 5), 0) as previous_5_years,
        coalesce(sum(award.usd) filter (where award.is_affiliate), 0) as historical_affiliate_usd,
        coalesce(sum(award.usd) filter (where award.is_affiliate and award.calendar_year = place.year), 0) as annual_affiliate_usd,
        count(*) filter (where award.is_affiliate) as historical_affiliate_grants,
        count(*) filter (where award.is_affiliate and award.calendar_year = place.year) as annual_affiliate_grants,
        coalesce(sum(award.weighted_constant) filter (where award.is_affiliate), 0) as historical_affiliate_weighted,
        coalesce(sum(award.weighted_current) filter (where award.is_affiliate and award.calendar_year = place.year), 0)
            as annual_affiliate_weighted
    from country_years as place
    inner join awards as award on award.country_code = place.country_code and award.calendar_year <= place.year
    group by place.country_code, place.year
),

rated as (
    select
        *,
        case
            when previous_5_years > 0 then 1 + (cast(last_5_years as double) / cast(previous_5_years as double) - 1) / 5
            else 1
        end as change_rate
    from summed
)

select
    country_code,
    cast(year as integer) as year,
    cast(historical_usd as decimal(18, 2)) as sum_historical_grants_to_date,
    cast(annual_usd as decimal(18, 2)) as sum_calendar_year_grants,
    historical_grants as count_historical_grants_to_date,
    annual_grants as count_calendar_year_grants,
    cast(annual_weighted as double) as annual_grants_weighted,
    cast(historical_weighted as double) as historical_grants_weighted,
    cast(last_5_years as double) / 5 as average_grants_last_5_years,
    cast(previous_5_years as double) / 5 as average_grants_previous_5_years,
    change_rate as annual_grants_change_rate,
    cast(annual_weighted as double) * change_rate as annual_grants_by_annual_change_rate,
    cast(historical_weighted as double) * change_rate as historical_grants_by_annual_change_rate,
    cast(annual_affiliate_usd as decimal(18, 2)) as sum_calendar_year_affiliate_grants,
    cast(historical_affiliate_usd as decimal(18, 2)) as sum_historical_affiliate_grants,
    annual_affiliate_grants as count_calendar_year_affiliate_grants,
    historical_affiliate_grants as count_historical_affiliate_grants,
    cast(annual_affiliate_weighted as double) as annual_affiliate_grants_weighted,
    cast(historical_affiliate_weighted as double) as historical_affiliate_grants_weighted
from rated
