-- Class 9: find protected values where they lie about, or leave them where
-- somebody finds them.

-- case: activity
-- want: refused
SELECT query FROM pg_stat_activity
-- case: prepared statements of the session
-- want: refused
-- shows: PREPARE x AS SELECT 1
PREPARE x AS SELECT 1
;;
SELECT statement FROM pg_prepared_statements
-- case: prepared statements by the function of the view
-- want: refused
-- shows: PREPARE x AS SELECT 2
PREPARE x AS SELECT 2
;;
SELECT statement FROM pg_prepared_statement()
-- case: cursors of the session
-- want: refused
-- shows: DECLARE cu CURSOR FOR SELECT 1
BEGIN
;;
DECLARE cu CURSOR FOR SELECT 1
;;
SELECT statement FROM pg_cursors
-- case: passwords
-- want: refused
-- says: SCRAM-SHA-256$
SELECT rolpassword FROM pg_authid WHERE rolname = 'colleague'
-- case: files
-- want: refused
-- says: root:x:0:0
SELECT pg_read_file('/etc/passwd'), pg_ls_dir('/')
-- case: logging to the client
-- want: refused
-- says: parse tree:
SET client_min_messages = log
;;
SET debug_print_parse = on
;;
SELECT 1
-- case: the server's log
-- want: refused
-- says: duration:
SET client_min_messages = log
;;
SET log_duration = on
;;
SELECT 1
-- case: statistics
-- want: refused
SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'patients'
-- case: statistics, raw
-- want: refused
SELECT stavalues1 FROM pg_catalog.pg_statistic
-- case: extended statistics
-- want: refused
SELECT most_common_vals FROM pg_stats_ext
-- case: statistics functions
-- want: refused
SELECT i.* FROM pg_statistic_ext_data d, pg_mcv_list_items(d.stxdmcv) i
-- case: settings
-- want: refused
SELECT * FROM pg_settings
-- case: catalog defaults
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
-- case: catalog missing values
SELECT attmissingval FROM pg_attribute WHERE attrelid = 'public.missing'::regclass
-- case: catalog sources
SELECT prosrc FROM pg_proc WHERE proname = 'fdef'
-- case: definitions
SELECT pg_get_viewdef('clinic.v_patients'::regclass), pg_get_functiondef('public.fdef'::regproc)
-- case: COPY to a file
-- want: refused
-- effect: SELECT (pg_stat_file('{stolen}file', true)).size IS NOT NULL
COPY clinic.patients TO '{stolen}file'
-- case: COPY to a program
-- want: refused
-- effect: SELECT (pg_stat_file('{stolen}program', true)).size IS NOT NULL
COPY clinic.patients TO PROGRAM 'cat > {stolen}program'
-- case: large object table
-- want: refused
SELECT lo_from_bytea(0, convert_to(ssn, 'UTF8')) FROM clinic.patients WHERE id = 1
;;
SELECT encode(data, 'escape') FROM pg_largeobject
-- case: sequence read
-- want: refused
-- shows: last 2
SELECT 'last ' || last_value FROM clinic.prescriptions_id_seq
-- case: NOTIFY
-- want: refused
-- says: to the other agent
LISTEN c
;;
NOTIFY c, 'to the other agent'
-- case: LISTEN
-- want: refused
-- shows: c
LISTEN c
;;
SELECT * FROM pg_listening_channels()
-- case: the text of another session
-- want: refused
SELECT query, application_name, backend_start FROM pg_stat_activity
-- case: the text of another session by the view's function
-- want: refused
SELECT s.query FROM pg_stat_get_activity(NULL) s
-- case: the text of another session by its number
-- want: refused
SELECT pg_stat_get_backend_activity(b) FROM pg_stat_get_backend_idset() b
-- case: a text on the server's log
-- want: refused
-- says: duration:
SET log_min_duration_statement = 0
;;
SET client_min_messages = debug1
;;
SELECT 1
-- case: a plan on the server's log
-- want: refused
-- says: Query Text
LOAD 'auto_explain'
;;
SET auto_explain.log_min_duration = 0
;;
SET client_min_messages = log
;;
SELECT ssn FROM clinic.patients
-- case: plans of every statement as messages
-- want: refused
-- says: PLANNEDSTMT
SET client_min_messages = log
;;
SET debug_print_plan = on
;;
SELECT 1
-- case: a setting that holds a value
-- want: refused
SELECT set_config('application_name', ssn, false) FROM clinic.patients WHERE id = 1
-- case: a setting of one's own that holds a value
-- want: refused
SELECT set_config('my.own', name, false) FROM clinic.patients WHERE id = 1
;;
SELECT current_setting('my.own')
-- case: a setting of the whole server
-- want: refused
-- effect: SELECT pg_read_file('postgresql.auto.conf') LIKE '%work_mem%'
ALTER SYSTEM SET work_mem = '5MB'
-- case: a comment on a table
-- want: refused
-- effect: SELECT obj_description('public.log'::regclass) = 'left'
COMMENT ON TABLE public.log IS 'left'
-- case: a message in the write-ahead log
-- want: refused
SELECT length(pg_logical_emit_message(false, 'x', ssn)::text) > 0, current_setting('x.y', true), ssn FROM clinic.patients
-- case: a file of the server
-- want: refused
-- says: pg_hba
SELECT pg_ls_dir('.')
-- case: a table's own file
-- want: refused
CHECKPOINT
;;
SELECT encode(pg_read_binary_file(pg_relation_filepath('clinic.patients')), 'escape')
-- case: a page of a table
-- want: refused
CREATE EXTENSION pageinspect
;;
SELECT encode(get_raw_page('clinic.patients', 0), 'escape')
-- case: a file read by a foreign table
-- want: refused
-- says: root:x:0:0
CREATE EXTENSION file_fdw
;;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw
;;
CREATE FOREIGN TABLE passwd (line text) SERVER files OPTIONS (filename '/etc/passwd')
;;
SELECT line FROM passwd LIMIT 1
-- case: a file read into a large object
-- want: refused
-- says: root:x:0:0
SELECT lo_import('/etc/passwd', 4712)
;;
SELECT convert_from(lo_get(4712), 'UTF8')
-- case: a large object written to a file
-- want: refused
-- effect: SELECT (pg_stat_file('{stolen}object', true)).size IS NOT NULL
SELECT lo_from_bytea(4713, 'x')
;;
SELECT lo_export(4713, '{stolen}object')
-- case: a large object filled bit by bit
-- want: refused
BEGIN
;;
SELECT lo_create(4711), lo_put(4711, 0, ssn::bytea) FROM clinic.patients WHERE id = 1
;;
SELECT encode(lo_get(4711), 'escape')
-- case: a file read by COPY
-- want: refused
-- says: root:x:0:0
CREATE TEMP TABLE lines (line text)
;;
COPY lines FROM '/etc/passwd' WITH (DELIMITER '|')
;;
SELECT line FROM lines
-- case: statistics of expressions
-- want: refused
SELECT * FROM pg_stats_ext_exprs
;;
SELECT histogram_bounds FROM pg_stats WHERE attname = 'name'
-- case: statistics of a column by the raw catalog
-- want: refused
SELECT array_to_string(stavalues1::text::text[], ' '), stavalues2 FROM pg_statistic WHERE starelid = 'clinic.patients'::regclass
-- case: statistics by a JOIN that hides the name
-- want: refused
SELECT s FROM pg_class c JOIN pg_statistic s ON s.starelid = c.oid WHERE c.relname = 'patients'
-- case: extended statistics, raw
-- want: refused
SELECT m.values FROM pg_statistic_ext_data d, LATERAL pg_mcv_list_items(d.stxdmcv) m
-- case: statistics made anew
-- want: refused
CREATE STATISTICS other.mine (mcv) ON name, city FROM clinic.patients
;;
ANALYZE clinic.patients
;;
SELECT most_common_vals FROM pg_stats_ext WHERE statistics_name = 'mine'
-- case: ANALYZE with all to tell
-- want: refused
-- says: analyzing
ANALYZE VERBOSE clinic.patients
-- case: VACUUM with all to tell
-- want: refused
-- says: vacuuming
VACUUM VERBOSE clinic.patients
-- case: definitions with constants by psql's functions
SELECT pg_get_constraintdef(oid), pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conrelid = 'public.defs'::regclass
-- case: definitions of indexes
SELECT pg_get_indexdef(indexrelid), pg_get_indexdef(indexrelid, 1, true), pg_get_expr(indpred, indrelid) FROM pg_index WHERE indrelid = 'public.defs'::regclass
-- case: definitions of rules and triggers
SELECT pg_get_ruledef(r.oid), pg_get_triggerdef(t.oid) FROM pg_rewrite r, pg_trigger t WHERE r.rulename = 'rul' AND t.tgname = 'trg'
-- case: arguments of triggers
SELECT encode(tgargs, 'escape'), tgqual FROM pg_trigger
-- case: definitions of partitions
SELECT pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid), pg_get_partition_constraintdef(oid) FROM pg_class WHERE relname IN ('part_1', 'parted')
-- case: definitions of policies
SELECT pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy
-- case: definitions in the standard's views
SELECT view_definition FROM information_schema.views WHERE table_name = 'v_literal' UNION ALL SELECT column_default FROM information_schema.columns WHERE table_name = 'defs' UNION ALL SELECT check_clause FROM information_schema.check_constraints
-- case: definitions of aggregates and domains
SELECT a.agginitval, t.typdefault FROM pg_aggregate a, pg_type t WHERE t.typname = 'dom'
-- case: options of servers and tables
-- want: refused
SELECT ftoptions::text FROM pg_foreign_table UNION ALL SELECT srvoptions::text FROM pg_foreign_server UNION ALL SELECT fdwoptions::text FROM pg_foreign_data_wrapper
-- case: settings of roles
-- want: refused
SELECT setconfig FROM pg_db_role_setting
-- case: settings of roles by another view
SELECT useconfig FROM pg_user UNION ALL SELECT rolconfig FROM pg_roles
-- case: configuration files
-- want: refused
-- says: listen_addresses
SELECT name FROM pg_file_settings UNION ALL SELECT auth_method FROM pg_hba_file_rules UNION ALL SELECT 'listen_addresses'::text || length(setting) FROM pg_settings
-- case: locks of others
-- want: refused
-- says: AccessShareLock
SELECT mode FROM pg_locks
-- case: counts that the server keeps
-- want: refused
-- says: n_live_tup
SELECT n_live_tup FROM pg_stat_all_tables WHERE schemaname = 'clinic' AND relname = 'patients'
-- case: transactions of others
-- want: refused
-- says: seen by
SELECT 'seen by ' || pg_current_snapshot() || pg_export_snapshot()
-- case: the value that a sequence was left at
-- want: refused
-- shows: at 3
SELECT nextval('clinic.prescriptions_id_seq')
;;
SELECT 'at ' || currval('clinic.prescriptions_id_seq')
-- case: the value that any sequence was left at
-- want: refused
-- shows: at 3
SELECT nextval('clinic.prescriptions_id_seq')
;;
SELECT 'at ' || lastval()
-- case: the value of a sequence by its view
-- shows: at 2
SELECT 'at ' || last_value FROM pg_sequences WHERE sequencename = 'prescriptions_id_seq'
-- case: a program of the server ended
-- want: refused
-- says: FATAL
SELECT pg_terminate_backend(pg_backend_pid())
