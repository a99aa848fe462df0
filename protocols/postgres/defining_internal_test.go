package postgres

import (
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// What is not looked into is taken to define something where it may.
func TestMayDefine(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT 1": false, "SELECT abalance FROM pgbench_accounts WHERE aid = 1": false,
		"INSERT INTO pgbench_history (tid, bid) VALUES (1, 2)": false,
		"SELECT count(*), Max(a) FROM t WHERE a IN (1, 2)":     false,
		"SELECT 'create table x (a int)'":                      false,
		"SELECT 1 -- f()":                                      false,
		"BEGIN":                                                false, "COMMIT": false, "UPDATE t SET a = (SELECT 1)": false,
		"CREATE TABLE x (a int)": true, "alter table x rename to y": true, "DO $$BEGIN END$$": true, "CALL p()": true,
		"SELECT f()": true, "SELECT s.lower('x')": true, `SELECT "f"()`: true, "SELECT f ()": true, "SELECT f/**/(1)": true,
		"SELECT 1; DROP TABLE x": true, "COMMIT PREPARED 'x'": true, "EXECUTE e": true, "SELECT 1 INTO x": true,
		"SELECT é(1)": true, "INSERT INTO t (a) SELECT f(1)": true, "GRANT a TO b": true, "SELECT 'a\\' || f()": true,
	} {
		norm, _ := token.Normalize(nil, sql, nil)
		if got := mayDefine(norm, relayed(norm, []byte(sql), &policy.Scope{}).Commands); got != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
}
