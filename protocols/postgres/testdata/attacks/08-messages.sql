-- Class 8: every message of the protocol. Lines that begin with ">" are messages,
-- all sent at once; postgrestest.say tells how they are written.

-- case: two queries at once
> query "SELECT 1"
> query "SELECT ssn FROM clinic.patients"
-- case: Flush instead of Sync
> parse - "SELECT ssn FROM clinic.patients"
> flush
> bind - - text
> flush
> execute - 0
> flush
> sync
-- case: Describe without Execute, then Execute
> parse s "SELECT ssn, name FROM clinic.patients"
> describe S s
> bind p s binary
> describe P p
> execute p 0
> sync
-- case: rows one at a time
> parse - "SELECT ssn FROM clinic.patients ORDER BY id"
> bind p - text
> execute p 1
> execute p 1
> execute p 0
> sync
-- case: a portal that FETCH reads
> query "BEGIN"
> parse s "SELECT ssn FROM clinic.patients"
> bind p s text
> sync
> query "FETCH ALL FROM p"
-- case: a cursor that Execute reads
> query "BEGIN; DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients"
> execute c 0
> sync
-- case: a statement of SQL that Bind names
> query "PREPARE s AS SELECT ssn FROM clinic.patients"
> bind - s text
> execute - 0
> sync
-- case: a statement of Parse that EXECUTE names
> parse s "SELECT ssn FROM clinic.patients WHERE id = $1" 23
> sync
> query "EXECUTE s (1)"
-- case: a statement replaced between Bind and Execute
> parse - "SELECT ssn FROM clinic.patients"
> bind p - text
> parse - "SELECT 1"
> execute p 0
> sync
-- case: a harmless statement replaced
> parse - "SELECT 1"
> parse - "SELECT ssn FROM clinic.patients"
> bind - - text
> execute - 0
> sync
-- case: a name parsed twice
> parse s "SELECT ssn FROM clinic.patients"
> parse s "SELECT 1"
> sync
> bind - s text
> execute - 0
> sync
-- case: a name closed and made again
> parse s "SELECT 1"
> close S s
> parse s "SELECT ssn FROM clinic.patients"
> bind - s text
> execute - 0
> sync
-- case: a name closed in a batch that failed
> parse s "SELECT ssn FROM clinic.patients"
> sync
> parse x "SELECT 1/"
> close S s
> sync
> bind - s text
> execute - 0
> sync
-- case: a portal of a batch before
> query "BEGIN"
> parse - "SELECT ssn FROM clinic.patients"
> bind p - text
> sync
> execute p 2
> sync
> execute p 0
> sync
-- case: a portal after a savepoint
> query "BEGIN"
> query "SAVEPOINT a"
> parse - "SELECT ssn FROM clinic.patients"
> bind p - text
> sync
> query "RELEASE a"
> execute p 0
> sync
-- case: a portal that is bound again
> query "BEGIN"
> parse a "SELECT 1"
> parse b "SELECT ssn FROM clinic.patients"
> bind - a text
> bind - b text
> execute - 0
> sync
-- case: Query closes the unnamed portal
> query "BEGIN"
> parse b "SELECT ssn FROM clinic.patients"
> bind - b text
> sync
> query "SELECT 1"
> bind - b text
> execute - 0
> sync
-- case: a literal in a parameter
-- tells
> parse - "SELECT id FROM clinic.patients WHERE ssn = $1"
> bind - - text "911-47-0001"
> execute - 0
> sync
-- case: a parameter that comes back in an error
> parse - "SELECT ssn::int + $1 FROM clinic.patients" 23
> bind - - text "1"
> execute - 0
> sync
-- case: parameters of a cast
> parse - "SELECT name || $1, $2::text FROM clinic.patients" 25 25
> bind - - text "x" "y"
> execute - 0
> sync
-- case: the type of a table as a parameter's
> parse - "SELECT ($1::clinic.patients).city || p.ssn FROM clinic.patients p"
> bind - - text "(1,a,b,1999-01-01,c,d,e,f,1)"
> execute - 0
> sync
-- case: COPY in the extended protocol
> parse - "COPY clinic.patients TO STDOUT"
> bind - - text
> execute - 0
> sync
-- case: EXPLAIN in the extended protocol
-- want: refused
-- says: Seq Scan
> parse - "EXPLAIN SELECT ssn FROM clinic.patients"
> bind - - text
> execute - 0
> sync
-- case: FETCH in the extended protocol
> query "BEGIN; DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients"
> parse - "FETCH ALL FROM c"
> bind - - binary
> execute - 0
> sync
-- case: FETCH parsed before its cursor is declared
> query "BEGIN; DECLARE c CURSOR FOR SELECT 1"
> parse f "FETCH ALL FROM c"
> sync
> query "CLOSE c; DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients"
> bind - f text
> execute - 0
> sync
-- case: EXECUTE parsed before its statement is replaced
> query "PREPARE q AS SELECT 'x'"
> parse e "EXECUTE q"
> sync
> query "DEALLOCATE q"
> query "PREPARE q AS SELECT ssn FROM clinic.patients"
> bind - e text
> execute - 0
> sync
-- case: FETCH of a portal of EXECUTE whose statement is replaced
-- want: refused
> query "PREPARE q AS SELECT 'x'"
> query "BEGIN"
> parse - "EXECUTE q"
> bind p - text
> sync
> query "DEALLOCATE q"
> query "PREPARE q AS SELECT ssn FROM clinic.patients"
> query "FETCH ALL FROM p"
-- case: MOVE of a portal of EXECUTE whose statement is replaced
-- want: refused
-- says: MOVE 3
> query "PREPARE q AS SELECT 'x'"
> query "BEGIN"
> parse - "EXECUTE q"
> bind p - text
> sync
> query "DEALLOCATE q"
> query "PREPARE q AS SELECT generate_series(1, 3)::text"
> query "MOVE ALL FROM p"
-- case: FETCH of a portal of FETCH whose cursor is replaced
-- want: refused
> query "BEGIN"
> query "DECLARE c CURSOR FOR SELECT 'x'"
> parse - "FETCH ALL FROM c"
> bind p - text
> sync
> query "CLOSE c"
> query "DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients"
> query "FETCH ALL FROM p"
-- case: the rest of a portal of EXECUTE whose statement is replaced
-- want: refused
> query "PREPARE q AS SELECT ssn FROM clinic.patients"
> query "BEGIN"
> parse - "EXECUTE q"
> bind p - text
> execute p 1
> sync
> query "DEALLOCATE q"
> query "PREPARE q AS SELECT 'x' AS ssn"
> execute p 0
> sync
-- case: a call of query_to_xml by its number
-- want: refused
> call 2924 "SELECT ssn FROM clinic.patients" "t" "t" "x"
-- case: a call of pg_read_file by its number
-- want: refused
-- says: root:x:0:0
> call 3826 "/etc/passwd"
-- case: a call of lo_import by its number
-- want: refused
-- effect: SELECT EXISTS (SELECT FROM pg_largeobject_metadata)
> call 764 "/etc/passwd"
-- case: a call of a harmless function by its number
-- want: refused
-- shows: 42
> call 177 "40" "2"
-- case: replication of the database
-- login: replication=database
-- want: ended
> query "SELECT ssn FROM clinic.patients"
-- case: physical replication
-- login: replication=true
-- want: ended
-- says: systemid
> query "IDENTIFY_SYSTEM"
-- case: a base backup
-- since: 15
-- login: replication=true
-- want: ended
-- says: pg_control
> query "BASE_BACKUP (CHECKPOINT 'fast', WAL false, MANIFEST 'no')"
-- case: a replication slot
-- login: replication=database
-- want: ended
-- says: consistent_point
> query "CREATE_REPLICATION_SLOT stolen TEMPORARY PHYSICAL"
-- case: replication in an ordinary session
> query "IDENTIFY_SYSTEM"
> query "SELECT ssn FROM clinic.patients"
-- case: a password in between
-- want: ended
> query "SELECT ssn FROM clinic.patients"
> raw p "secret\x00"
-- case: COPY data out of place
> raw d "stolen"
> raw c ""
> query "SELECT ssn FROM clinic.patients"
-- case: a type that nobody knows
-- want: ended
> query "SELECT ssn FROM clinic.patients"
> raw y "WHAT"
-- case: a statement behind a NUL
-- want: ended
> query "SELECT ssn FROM clinic.patients"
> raw Q "SELECT 1\x00; SELECT ssn FROM clinic.patients\x00" ready
-- case: COPY to the server that is given up
> query "COPY public.log (message) FROM STDIN"
> raw f "no\x00"
> query "SELECT ssn FROM clinic.patients"
