-- What the schema is, one line a fact, in words that every supported server version uses alike. Read from pg_catalog
-- only, with an empty search path so that every name is printed in full. Left out on purpose: what 17 and 18 added
-- (the MAINTAIN privilege, rows for NOT NULL) and what an administrator may choose (LOGIN, passwords, tablespaces).
WITH relations AS (
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity,
        c.relpersistence, c.reloptions
    FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('perdure') AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
), routines AS (
    SELECT p.oid, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name, p.proowner, p.proacl,
        p.prokind
    FROM pg_proc p
    WHERE p.pronamespace = to_regnamespace('perdure')
), grants AS (
    SELECT 'schema perdure' AS thing, n.nspowner AS owner, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl
    FROM pg_namespace n WHERE n.nspname = 'perdure'
    UNION ALL
    SELECT 'relation ' || r.name, r.relowner,
        coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))
    FROM relations r WHERE r.relkind <> 'c'
    UNION ALL
    SELECT 'routine ' || f.name, f.proowner, coalesce(f.proacl, acldefault('f', f.proowner)) FROM routines f
    UNION ALL
    SELECT 'column ' || r.name || '.' || a.attname, r.relowner, a.attacl
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid WHERE a.attacl IS NOT NULL
), facts (thing, fact) AS (
    SELECT 'role ' || rolname, concat_ws(' ', CASE WHEN rolsuper THEN 'superuser' END,
        CASE WHEN rolbypassrls THEN 'bypassrls' END, 'made')
    FROM pg_roles WHERE rolname IN ('perdure_owner', 'perdure_app', 'perdure_relay', 'perdure_maintenance')
    UNION ALL
    SELECT 'role ' || m.rolname, 'member of ' || g.rolname
    FROM pg_auth_members x JOIN pg_roles g ON g.oid = x.roleid JOIN pg_roles m ON m.oid = x.member
    WHERE m.rolname IN ('perdure_owner', 'perdure_app', 'perdure_relay', 'perdure_maintenance')
    UNION ALL
    SELECT 'schema perdure', 'owner ' || pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'perdure'
    UNION ALL
    SELECT 'relation ' || name, concat_ws(' ', 'kind', relkind, 'persistence', relpersistence, 'owner',
        pg_get_userbyid(relowner), CASE WHEN relrowsecurity THEN 'rls' END,
        CASE WHEN relforcerowsecurity THEN 'forced' END, array_to_string(reloptions, ' '))
    FROM relations
    UNION ALL
    SELECT 'column ' || r.name || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attcollation <> t.typcollation
            THEN 'collate ' || (SELECT collname FROM pg_collation WHERE oid = a.attcollation) END,
        CASE WHEN a.attnotnull THEN 'not null' END, nullif('identity ' || a.attidentity::text, 'identity '),
        nullif('generated ' || a.attgenerated::text, 'generated '), 'default ' || pg_get_expr(d.adbin, d.adrelid))
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind <> 'S'
    UNION ALL
    SELECT 'relation ' || r.name, 'columns ' || string_agg(a.attname, ', ' ORDER BY a.attnum)
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE r.relkind <> 'S' GROUP BY r.name
    UNION ALL
    SELECT 'constraint ' || r.name || '.' || c.conname, pg_get_constraintdef(c.oid)
    FROM relations r JOIN pg_constraint c ON c.conrelid = r.oid WHERE c.contype NOT IN ('n', 't')
    UNION ALL
    SELECT 'index ' || r.name || '.' || x.relname,
        pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END
    FROM relations r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class x ON x.oid = i.indexrelid
    UNION ALL
    SELECT 'trigger ' || r.name || '.' || t.tgname, t.tgenabled::text || ' ' || pg_get_triggerdef(t.oid)
    FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'policy ' || r.name || '.' || p.polname, concat_ws(' ',
        CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, p.polcmd, 'to',
        (SELECT string_agg(CASE o WHEN 0 THEN 'public' ELSE pg_get_userbyid(o) END, ', '
            ORDER BY pg_get_userbyid(o) COLLATE "C") FROM unnest(p.polroles) o),
        'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
    FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
    UNION ALL
    -- Before 16 a view of one table prints its columns with the table's name, since then without.
    SELECT 'view ' || name, regexp_replace(pg_get_viewdef(oid), '\m[a-z_][a-z0-9_]*\.(?=[a-z_])', '', 'g')
    FROM relations WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT 'view ' || r.name, 'reads ' || string_agg(DISTINCT d.refobjid::regclass::text, ', ')
    FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.oid
    WHERE r.relkind IN ('v', 'm') GROUP BY r.name
    UNION ALL
    SELECT 'rule ' || r.name || '.' || w.rulename, pg_get_ruledef(w.oid)
    FROM relations r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT 'routine ' || name, 'owner ' || pg_get_userbyid(proowner) FROM routines
    UNION ALL
    SELECT 'routine ' || name, pg_get_functiondef(oid) FROM routines WHERE prokind IN ('f', 'p', 'w')
    UNION ALL
    SELECT 'type ' || t.typname, concat_ws(' ', 'kind', t.typtype, nullif(format_type(t.typbasetype, t.typtypmod), '-'),
        CASE WHEN t.typnotnull THEN 'not null' END, 'default ' || t.typdefault,
        (SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
        (SELECT string_agg(pg_get_constraintdef(c.oid), ' ' ORDER BY c.conname)
            FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype <> 'n'))
    FROM pg_type t WHERE t.typnamespace = to_regnamespace('perdure') AND t.typtype IN ('d', 'e', 'r')
    UNION ALL
    SELECT g.thing, concat_ws(' ', 'grants',
        string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type COLLATE "C"), 'to',
        CASE a.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(a.grantee) END,
        CASE WHEN a.is_grantable THEN 'with grant option' END)
    FROM grants g CROSS JOIN aclexplode(g.acl) a
    WHERE a.privilege_type <> 'MAINTAIN' GROUP BY g.thing, a.grantee, a.is_grantable
)
SELECT thing, fact FROM facts ORDER BY thing COLLATE "C", fact COLLATE "C"
