package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// developer is somebody without any privilege, with sallyport in a folder.
type developer struct {
	t   *testing.T
	dir string
}

func newDeveloper(t *testing.T, server string) *developer {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sallyport-developer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "--reflink=auto", self, filepath.Join(dir, "sallyport")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := &developer{t, dir}
	b, err := os.ReadFile("../../docs/development.md")
	if err != nil {
		t.Fatal(err)
	}
	cfg := string(regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(b)[1])
	cfg = strings.NewReplacer("127.0.0.1:5432", server, "127.0.0.1:8480", fmt.Sprintf("127.0.0.1:%d", redirecttest.Port(t))).Replace(cfg)
	d.write("ci.yaml", cfg)
	d.write("policy.yaml", `rules:
  - {name: read, effect: allow, identity: "*", resource: clinic, commands: [read, session], relations: "*"}
  - {name: phi, effect: mask, identity: "*", resource: clinic, fields: {public.patients.ssn: redact}}
  - {name: proved, effect: block, identity: "*", resource: clinic, commands: read, relations: public.proved, condition: '!("pidfd" in identity.bindings)'}
`)
	if err := os.Chown(dir, agentUID, agentUID); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *developer) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// command is a command of theirs: sallyport is this test.
func (d *developer) command(script string) *exec.Cmd {
	cmd := exec.Command("setpriv", "--reuid", fmt.Sprint(agentUID), "--regid", fmt.Sprint(agentUID), "--clear-groups", "--no-new-privs", "--bounding-set=-all", "sh", "-c", script)
	cmd.Dir = d.dir
	cmd.Env = []string{"PATH=" + d.dir + ":/usr/bin:/bin", "HOME=/nonexistent", "SALLYPORT_TEST=1", "LC_ALL=C", "PGUSER=postgres", "PGDATABASE=postgres", "PGCONNECT_TIMEOUT=30"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (d *developer) run(script string) (out, diag string, err error) {
	d.t.Helper()
	cmd := d.command(script)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	if err = stand.Launch(cmd); err == nil {
		err = cmd.Wait()
	}
	return o.String(), e.String(), err
}

// What docs/development.md says a step of CI is works for somebody without root,
// and nobody is left in doubt of what it is not.
func TestProxyInCI(t *testing.T) {
	server := startPostgres(t)
	admin := func(sql string) {
		t.Helper()
		if out, err := exec.Command("psql", "-X", "-q", "-h", "127.0.0.1", "-p", port(server), "-U", "postgres", "-c", sql).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	admin("CREATE ROLE sallyport_catalog LOGIN; CREATE TABLE patients (id int, ssn text); INSERT INTO patients VALUES (1, '911-47-0001'); CREATE TABLE proved (a int)")
	d := newDeveloper(t, server)
	b, err := os.ReadFile("../../docs/development.md")
	if err != nil {
		t.Fatal(err)
	}
	step := string(regexp.MustCompile("(?s)```sh\n(sallyport proxy.*?)```").FindSubmatch(b)[1])
	out, diag, err := d.run("set -e\n" + step)
	if err != nil || !strings.HasPrefix(out, "[redacted]\njournal, chain ") || !strings.Contains(out, "sound:") || strings.Contains(out, "911-47") {
		t.Fatalf("%v\n%s\n%s", err, out, diag)
	}
	if n := strings.Count(diag, proxyNotice); n != 2 { // of the program, and of psql
		t.Errorf("%d notices: %s", n, diag)
	}
	// Exit codes pass; a process is not proved, and a rule can tell.
	_, diag, err = d.run(`sallyport proxy -c ci.yaml --listen 127.0.0.1:0 --issue -- sh -c 'psql -X -w -c "SELECT * FROM proved"; psql -X -w -c "DELETE FROM patients"; exit 7'`)
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 7 || !strings.Contains(diag, `rule "proved" blocks`) || strings.Count(diag, "sallyport: refused") != 2 {
		t.Errorf("%v: %s", err, diag)
	}
	events := 0
	for _, e := range journalOf(t, filepath.Join(d.dir, ".sallyport/journal")) {
		events++
		var u struct {
			Unmapped struct {
				Unplaced   bool
				Proof      string
				ActorBound []string `json:"actor_bound"`
				Workload   string
			}
		}
		if err := json.Unmarshal(e, &u); err != nil || !u.Unmapped.Unplaced {
			t.Errorf("%v: %s", err, e)
		}
		if w := u.Unmapped; w.Workload != "" && (w.Workload != "billing-agent" || w.Proof != "token-bearer" || strings.Contains(fmt.Sprint(w.ActorBound), "pidfd")) {
			t.Errorf("%+v", w)
		}
	}
	if events < 12 {
		t.Errorf("%d events", events)
	}
	if left, _ := os.ReadFile(filepath.Join(d.dir, ".sallyport/token")); len(left) > 0 {
		t.Error("the token is left")
	}
}

// Nobody is let in without a token that verifies, in band too.
func TestProxyIdentities(t *testing.T) {
	server := startPostgres(t)
	d := newDeveloper(t, server)
	b, _ := os.ReadFile(filepath.Join(d.dir, "ci.yaml"))
	d.write("ci.yaml", strings.Replace(string(b), "subjects: [billing-agent]", "subjects: [billing-agent], in_band: password", 1)+"metrics: \""+free0(t)+"\"\n")
	d.write("allow.yaml", "rules:\n  - {name: all, effect: allow, identity: \"*\", resource: clinic, commands: \"*\", relations: \"*\"}\n")
	b, _ = os.ReadFile(filepath.Join(d.dir, "ci.yaml"))
	metrics := regexp.MustCompile(`metrics: "(.*)"`).FindStringSubmatch(string(b))[1]
	d.write("ci.yaml", strings.Replace(string(b), "policy: policy.yaml", "policy: allow.yaml", 1))
	out, diag, err := d.run(`sallyport proxy -c ci.yaml --listen 127.0.0.1:0 --issue -- sh -c '
		psql -X -w -A -t -c "SELECT 40 + 2"
		PGPASSWORD=x.y.z psql -X -w -c "SELECT 1"
		PGPASSWORD= psql -X -w -c "SELECT 1"
		exec 3<>/dev/null; true'`)
	if err != nil || out != "42\n" || strings.Count(diag, "FATAL:") != 1 || !strings.Contains(diag, "no password supplied") {
		t.Errorf("%v: %q\n%s", err, out, diag)
	}
	// Without a token nobody; and it serves until it is told.
	b, _ = os.ReadFile(filepath.Join(d.dir, "ci.yaml"))
	d.write("ci.yaml", strings.Replace(string(b), ", in_band: password", "", 1))
	d.write("none", "not a token\n")
	cmd := d.command("exec sallyport proxy -c ci.yaml --listen 127.0.0.1:0 --token-file none")
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = stand.Launch(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	var addr string
	if _, err := fmt.Fscanf(stdout, "ready %s\n", &addr); err != nil {
		t.Fatal(err)
	}
	_, p, _ := net.SplitHostPort(addr)
	text, err := exec.Command("psql", "-X", "-w", "-h", "127.0.0.1", "-p", p, "-U", "postgres", "-c", "SELECT 1").CombinedOutput()
	if err == nil || !strings.Contains(string(text), "sallyport: refused") {
		t.Errorf("%v: %s", err, text)
	}
	c, err := net.Dial("tcp", metrics)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /metrics HTTP/1.0\r\n\r\n")
	page, _ := io.ReadAll(c)
	c.Close()
	if !strings.Contains(string(page), "\nsallyport_placement 0\n") {
		t.Error("its metrics do not tell")
	}
	var l findings
	l.proxies("/proc")
	if len(l) != 1 || !strings.Contains(l[0].Detail, fmt.Sprint(cmd.Process.Pid)) || l[0].Remedy == "" {
		t.Errorf("the doctor does not tell: %+v", l)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// What it can't give it refuses to be asked for.
func TestProxyRefuses(t *testing.T) {
	d := newDeveloper(t, "127.0.0.1:1")
	good, err := os.ReadFile(filepath.Join(d.dir, "ci.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for more, want := range map[string]string{
		"interception: {mode: host}\n":                      "interception: sallyport proxy does without",
		"enforcement: enforce\n":                            "enforcement: sallyport proxy does without",
		"state: /var/lib/sallyport\n":                       "--state",
		"evidence: {nats: {url: \"nats://127.0.0.1:1\"}}\n": "nats: sallyport proxy does without",
		"evidence: {nats: {listen: \"127.0.0.1:4222\"}}\n":  "nats: sallyport proxy does without",
		"# unix\n":      "unix: sallyport proxy does without",
		"# undecoded\n": "undecoded: sallyport proxy does without",
		"# two\n":       "name it with --workload",
	} {
		text := string(good) + more
		switch more {
		case "# unix\n":
			text = strings.Replace(text, "    catalog:", "    unix: [/run/x/.s.PGSQL.5432]\n    catalog:", 1)
		case "# undecoded\n":
			text = strings.Replace(text, "    catalog:", "    tls: {undecoded: never}\n    catalog:", 1)
		case "# two\n":
			text = strings.Replace(text, "policy:", "    - {name: other, match: {uid: 1}, subjects: [x]}\npolicy:", 1)
		}
		d.write("bad.yaml", text)
		_, diag, err := d.run("sallyport proxy -c bad.yaml --issue -- true")
		if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 2 || !strings.Contains(diag, want) || !regexp.MustCompile(`bad.yaml:\d+: `).MatchString(diag) {
			t.Errorf("%s: %v: %s", more, err, diag)
		}
	}
	for args, want := range map[string]string{
		"--listen 0.0.0.0:6432 --issue": "loopback",
		"--resource other --issue":      "--resource",
		"--issue --token-file x":        "none of the others can be",
		"":                              "has no token",
		"true":                          "behind --",
		"--listen 127.0.0.1:0 --token-file x --state /proc/x": "/proc/x",
	} {
		if _, diag, err := d.run("sallyport proxy -c ci.yaml " + args); err == nil || !strings.Contains(diag, want) {
			t.Errorf("%s: %v: %s", args, err, diag)
		}
	}
	if _, err := command("proxy", "-c", filepath.Join(d.dir, "ci.yaml")); err == nil || !strings.Contains(err.Error(), "must not run as root") {
		t.Error(err)
	}
}

// journalOf returns the events of a journal that nobody has open.
func journalOf(t *testing.T, folder string) (all [][]byte) {
	t.Helper()
	j, err := journal.Open(folder, journal.Options{Encode: ocsf.Append, CheckpointEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	r := j.Reader(j.First())
	defer r.Close()
	for range j.Last() - j.First() + 1 {
		rec, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if rec.Kind != 0 {
			all = append(all, bytes.Clone(rec.Payload))
		}
	}
	return all
}

func free0(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", redirecttest.Port(t)) }
