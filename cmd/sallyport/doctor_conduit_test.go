package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// block returns the first block of code of a kind in a page of docs.
func block(t *testing.T, page, kind string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)\n```" + kind + "\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatalf("%s has no block %s", page, kind)
	}
	return string(m[1])
}

// The recipe makes the passage the only way, and each line that does not is
// found.
func TestSoleConduit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, for a PostgreSQL server of its own")
	}
	dir, err := os.MkdirTemp("", "sallyport-hba")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	hba := filepath.Join(dir, "pg_hba.conf")
	recipe := strings.NewReplacer("192.0.2.10/32", "127.0.0.1/32", "peer", "trust").Replace(block(t, "sole-conduit.md", "pg_hba"))
	reload := func() {}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(hba, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		reload()
	}
	write(recipe)
	options, ca := serverTLS(t)
	server, log := startPostgresWith(t, options+" -c hba_file="+hba)
	sql := strings.Replace(block(t, "sole-conduit.md", "sql"), "CREATE ROLE sallyport_catalog LOGIN", "CREATE ROLE sallyport_catalog LOGIN PASSWORD 'c'", 1)
	psql := exec.Command("psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", filepath.Dir(log), "-p", port(server), "-U", "postgres")
	psql.Stdin = strings.NewReader(sql)
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "sallyport.yaml")
	accounts := ", login: broker, accounts: [{workloads: [a], user: clinic_reader, password_file: " + password + "}, {workloads: [b], user: clinic_writer, password_file: " + password + "}]"
	configure := func(more string) {
		t.Helper()
		text := `host: test
policy: policy.yaml
resources:
  - {name: clinic, protocol: postgres, addresses: ["` + server + `"], tls: {server: verify-full, ca: ` + ca + `, name: db},
     catalog: {user: sallyport_catalog, password_file: ` + password + `}` + more + `}
identity: {issuers: [{url: "https://issuer.example", audience: sallyport}]}
`
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure(accounts)
	psql = exec.Command("psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", filepath.Dir(log), "-p", port(server), "-U", "postgres")
	psql.Stdin = strings.NewReader(`CREATE TABLE tenants (id int, tenant int, mail text UNIQUE, born date) PARTITION BY HASH (mail);
		CREATE TABLE people (id int PRIMARY KEY, tenant int, mail text UNIQUE, born date, UNIQUE (tenant, mail));
		CREATE INDEX by_birth ON people (born); CLUSTER people USING by_birth;`)
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(`rules:
  - {name: masks, effect: mask, identity: "*", resource: "*", fields: {public.people.mail: redact, public.people.born: year, public.tenants.mail: redact}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	reload = func() {
		t.Helper()
		reloads := func() int {
			b, _ := os.ReadFile(log)
			return strings.Count(string(b), "received SIGHUP")
		}
		before := reloads()
		pid, _, _ := strings.Cut(string(readAll(t, filepath.Join(filepath.Dir(log), "d/postmaster.pid"))), "\n")
		if out, err := exec.Command("kill", "-HUP", pid).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for end := time.Now().Add(2 * time.Minute); reloads() == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the server does not reload")
			}
		}
	}
	doctor := func(args ...string) (out string, all map[string]finding, code int) {
		t.Helper()
		cmd := exec.Command("/proc/self/exe", append([]string{"-c", config, "doctor", "--resource", "clinic", "--json"}, args...)...)
		cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		b, _ := cmd.Output()
		var list []finding
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatalf("%v: %s%s", err, b, stderr.String())
		}
		all = map[string]finding{}
		for _, f := range list {
			all[f.Check] = f
		}
		return string(b), all, cmd.ProcessState.ExitCode()
	}
	const local = "local all postgres"
	recipe = strings.Replace(recipe, "local    all       postgres                                    trust", "local    all       postgres                                    peer", 1)
	write(recipe)
	if out, all, code := doctor(); code != 0 || !all["sole conduit"].OK || !strings.Contains(out, local) || !strings.HasPrefix(all["pg_hba.conf loaded"].Detail, "written ") {
		t.Errorf("the recipe: exit code %d: %s", code, out)
	}
	// What the order of rows could tell of what is masked.
	if out, _, _ := doctor(); strings.Count(out, `"order of rows"`) != 3 || !strings.Contains(out, "public.people_tenant_mail_key of public.people holds masked mail besides tenant") ||
		!strings.Contains(out, "clustered on public.by_birth") || !strings.Contains(out, "public.tenants is partitioned by mail") {
		t.Errorf("the order of rows: %s", out)
	}
	// What is written and not loaded is in force for nobody.
	if err := os.Chtimes(hba, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if out, all, code := doctor(); code != 1 || all["pg_hba.conf loaded"].OK || !strings.Contains(all["pg_hba.conf loaded"].Detail, "after the server last read") {
		t.Errorf("not loaded: exit code %d: %s", code, out)
	}
	write(recipe)
	for line, want := range map[string]string{
		"host all all 0.0.0.0/0 scram-sha-256":                         "addresses that are not the passage's",
		"hostssl all clinic_reader 127.0.0.0/8 scram-sha-256":          "addresses that are not the passage's",
		"hostssl all clinic_reader ::/0 scram-sha-256":                 "addresses that are not the passage's",
		"hostssl all clinic_reader db.example.com scram-sha-256":       "not one that can be held against",
		"hostssl all clinic_reader samenet scram-sha-256":              "not one that can be held against",
		"hostssl all all 127.0.0.1/32 scram-sha-256":                   "lets in all",
		"hostssl all +clinic_reader 127.0.0.1/32 scram-sha-256":        "lets in +clinic_reader",
		"hostssl all clinic_reader,intern 127.0.0.1/32 scram-sha-256":  "lets in intern",
		"host all clinic_reader 127.0.0.1/32 trust":                    "no credential",
		"host all clinic_reader 127.0.0.1/32 password":                 "anybody on the way",
		"local all all trust":                                          "no credential",
		"hostssl replication clinic_reader 127.0.0.2/32 scram-sha-256": "addresses that are not the passage's",
		"hostssl all clinic_reader 127.0.0.1 255.255.0.0 md5":          "addresses that are not the passage's",
		"hostssl all clinic_reader 127.0.0.1/32 nonsense":              "can't read it",
	} {
		write(recipe + line + "\n")
		out, all, code := doctor()
		if code != 1 || all["sole conduit"].OK || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d: %s", line, code, out)
		}
	}
	write(recipe + "hostssl all intern 127.0.0.1/32 scram-sha-256\n")
	configure("") // agents log in themselves
	if out, _, code := doctor(); code != 0 {
		t.Errorf("agents log in themselves: exit code %d: %s", code, out)
	}
	if out, _, code := doctor("--passage", "192.0.2.1"); code != 1 {
		t.Errorf("another passage: exit code %d: %s", code, out)
	}
	// Where nobody can tell it says so.
	write("local all all trust\n" + recipe)
	psql = exec.Command("psql", "-X", "-h", filepath.Dir(log), "-p", port(server), "-U", "postgres", "-c", "DROP FUNCTION public.sallyport_hba_written()")
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	write(recipe)
	if out, all, code := doctor(); code != 0 || all["pg_hba.conf loaded"].Remedy == "" {
		t.Errorf("not known: exit code %d: %s", code, out)
	}
	// What can't be asked is not well.
	if out, _, code := doctor("--server", "127.0.0.1:1"); code != 1 {
		t.Errorf("no server: exit code %d: %s", code, out)
	}
}

func readAll(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
