-- Whether the totals that everybody reads add up to the grants they are made of, fiscal year by fiscal year.

with awarded as (
    select
        fiscal_year_ending,
        sum(usd_over_grant_life) as usd,
        coalesce(sum(usd_over_grant_life) filter (where blocklisted), 0) as withheld,
        coalesce(sum(usd_over_grant_life) filter (where not blocklisted and country_code is null), 0) as placeless,
        coalesce(sum(usd_over_grant_life) filter (where not blocklisted and global_south is null), 0) as sideless
    from movement_insights.grants_input_metrics
    group by fiscal_year_ending
),

totals as (
    select fiscal_year_ending, 'country' as part, amount_usd from movement_insights.grants_spending_by_country
    union all
    select year(half_ending) + month(half_ending) // 12 as fiscal_year_ending, 'program' as part, amount_usd
    from movement_insights.grants_spending_by_program
    union all
    select year(half_ending) + month(half_ending) // 12 as fiscal_year_ending, 'side' as part, amount_usd
    from movement_insights.grants_spending_by_global_south
),

told as (
    select
        fiscal_year_ending,
        coalesce(sum(amount_usd) filter (where part = 'country'), 0) as by_country,
        coalesce(sum(amount_usd) filter (where part = 'program'), 0) as by_program,
        coalesce(sum(amount_usd) filter (where part = 'side'), 0) as by_side
    from totals
    group by fiscal_year_ending
)

select
    awarded.fiscal_year_ending,
    cast(awarded.usd as decimal(18, 2)) as awarded_usd,
    cast(awarded.withheld as decimal(18, 2)) as withheld_usd,
    cast(awarded.placeless as decimal(18, 2)) as without_country_usd,
    cast(awarded.sideless as decimal(18, 2)) as without_side_usd,
    cast(awarded.usd - awarded.withheld - awarded.placeless - coalesce(told.by_country, 0) as decimal(18, 2)) as missing_by_country_usd,
    cast(awarded.usd - awarded.withheld - coalesce(told.by_program, 0) as decimal(18, 2)) as missing_by_program_usd,
    cast(awarded.usd - awarded.withheld - awarded.sideless - coalesce(told.by_side, 0) as decimal(18, 2)) as missing_by_side_usd
from awarded
left join told on told.fiscal_year_ending = awarded.fiscal_year_ending
