-- Each grant with what its money is worth where it was spent: the country's population, product per head, prices and exchange rate of the year.

with awards as (
    select
        *,
        cast(year(awarded_on) as integer) as calendar_year
    from movement_insights."grant"
    where state in ('granted', 'closed') and awarded_on is not null
),

valued as (
    select
        award.*,
        country.un_subcontinent,
        country.un_continent,
        country.grant_committee_region,
        country.iso_alpha3_code is not null as is_country_known,
        economy.population,
        economy.gdp_per_capita_constant,
        economy.gdp_per_capita_current,
        economy.ppp_conversion_rate,
        economy.inflation_rate,
        economy.dec_adjusted_exchange_rate,
        -- In the local currency, then in what that buys, then at the prices of the year before.
        cast(award.amount_awarded_usd as double) * economy.dec_adjusted_exchange_rate / nullif(economy.ppp_conversion_rate, 0)
        / nullif(1 + economy.inflation_rate / 100, 0) as grant_value
    from awards as award
    left join movement_insights.country__current as country on country.iso_alpha3_code = award.country_code
    left join movement_insights.country_economy__current as economy
        on economy.country_code = award.country_code and economy.year = award.calendar_year
)

select
    cast(calendar_year + case when month(awarded_on) >= 7 then 1 else 0 end as integer) as fiscal_year_ending,
    program,
    request_id,
    amount_awarded_usd as usd_over_grant_life,
    gender_gap,
    calendar_year,
    country_name,
    country_code,
    org_type,
    un_subcontinent,
    un_continent,
    population,
    gdp_per_capita_constant,
    gdp_per_capita_current,
    ppp_conversion_rate,
    cast(amount_awarded_usd / nullif(gdp_per_capita_constant, 0) as decimal(28, 10)) as dollar_weighted_constant,
    cast(amount_awarded_usd / nullif(gdp_per_capita_current, 0) as decimal(28, 10)) as dollar_weighted_current,
    grant_value,
    inflation_rate,
    cast(amount_awarded_usd as double) / nullif(gdp_per_capita_constant, 0) / nullif(population, 0) as gdp_constant_pop_weighted,
    dec_adjusted_exchange_rate,
    grant_committee_region as grant_making_region,
    grant_value / nullif(population, 0) as converted_usd_per_1000_pop,
    multi_year_grant,
    location_self_disclosed,
    blocklisted,
    state as status,
    unique_grantee_id,
    awarded_on,
    currency,
    global_south,
    wikis,
    is_country_known
from valued
