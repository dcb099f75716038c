-- The same rows as the dumps of histories have; of each page the platform keeps the newest before the date of the dump.
select
    history.wiki_id,
    page_id,
    page_namespace_id,
    page_title,
    page_redirect_target,
    revision_id,
    revision_parent_id,
    revision_dt,
    user_id,
    user_text,
    user_is_visible,
    revision_comment,
    revision_comment_is_visible,
    revision_is_minor_edit,
    revision_sha1,
    revision_size,
    revision_content_is_visible,
    revision_content_slots,
    site_name,
    site_base,
    site_case,
    site_language,
    site_namespaces
from content.history
left join (
    select
        dbname as wiki_id,
        max(sitename) as site_name,
        max(home_page) as site_base,
        max(case_setting) as site_case,
        max(language) as site_language,
        list(
            {namespace_id: namespace, namespace_name: namespace_localized_name, namespace_case: namespace_case_setting}
            order by namespace
        ) as site_namespaces
    from mediawiki.project_namespace_map__current
    group by dbname
) as site on site.wiki_id = history.wiki_id
