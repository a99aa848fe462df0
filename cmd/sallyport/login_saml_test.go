package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/identity/samltest"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// samlHost is a host whose people log in at a real provider of SAML.
type samlHost struct {
	*host
	idp *samltest.IdP
	acs string
}

const samlService = "https://sallyport.clinic.example"

func newSAMLHost(t *testing.T) *samlHost {
	t.Helper()
	h := &samlHost{host: newHost(t, startPostgres(t))}
	h.acs = fmt.Sprintf("http://127.0.0.1:%d/acs", redirecttest.Port(t))
	h.idp = samltest.Start(t, samlService, h.acs)
	metadata := filepath.Join(h.dir, "clinic-idp.xml")
	h.write(metadata, string(h.idp.Metadata()))
	h.identity = fmt.Sprintf(`  recheck: 1s
  saml:
    - name: clinic
      entity_id: %q
      audience: %q
      acs: %q
      metadata: clinic-idp.xml
      subject: %q
      attributes: {groups: %q}
`, h.idp.EntityID, samlService, h.acs, samltest.UID, samltest.Groups)
	h.configure()
	h.write(h.policy, fmt.Sprintf(`rules:
  - name: doctors
    identity: {workload: agent-a, principal: alice, proof: "saml+exec"}
    resource: clinic
    commands: "*"
    relations: "*"
    condition: |
      "doctors" in identity.principal_claims.groups && identity.principal_issuer == %q &&
      "doctors" in identity.claims_by_issuer[identity.principal_issuer].groups &&
      identity.principal_proof == 'saml+exec' && identity.strength >= 25
    effect: allow
`, h.idp.EntityID))
	return h
}

// begin starts a login and returns it when it waits for a browser.
func (h *samlHost) begin(args ...string) (cmd *exec.Cmd, said *syncBuffer, url string) {
	h.t.Helper()
	cmd = h.command(append([]string{"login", "-c", h.config, "--saml", "clinic"}, args...)...)
	said = &syncBuffer{}
	cmd.Env = []string{"SALLYPORT_TEST=1", "HOME=" + h.dir, "PATH=/usr/bin:/bin"}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := stand.Launch(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	opens := regexp.MustCompile(`open (\S+)\n`)
	within(h.t, "an address is shown", func() bool {
		m := opens.FindStringSubmatch(said.String())
		if m != nil {
			url = m[1]
		}
		return m != nil
	})
	return cmd, said, url
}

// logIn logs somebody in and returns the file of it, and the answer.
func (h *samlHost) logIn(p samltest.Person) (file string, a *samltest.Answer) {
	h.t.Helper()
	file = filepath.Join(h.dir, p.Name+".login")
	cmd, said, url := h.begin("--out", file)
	a = h.idp.Login(url, p.Name, p.Password)
	if page := a.Post(h.t); !has(page, "200 The answer is taken") {
		h.t.Fatal(page)
	}
	if err := cmd.Wait(); err != nil || !has(said.String(), p.Name+" is logged in until ") || strings.Contains(said.String(), a.Response) {
		h.t.Fatalf("%v\n%s", err, said)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		h.t.Fatalf("%v %v", fi, err)
	}
	return file, a
}

// ask has an agent ask the server, for a person.
func (h *samlHost) ask(person, sql string) (string, error) {
	h.t.Helper()
	cmd := h.agent(h.token("agent-a"), "psql", "-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", port(h.server), "-c", sql)
	cmd.Args = slices.Insert(cmd.Args, slices.Index(cmd.Args, "--user"), "--for", person)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A person logs in at a real provider; what an agent does for them is theirs on
// the record, their attributes decide, and it ends with their login.
func TestLoginBySAML(t *testing.T) {
	h := newSAMLHost(t)
	// Metadata of somebody else is a mistake of the configuration, with its line.
	good := h.idp.Metadata()
	h.write(filepath.Join(h.dir, "clinic-idp.xml"), strings.ReplaceAll(string(good), h.idp.EntityID, "https://other.example"))
	h.start()
	if code := h.wait(); code != 2 || !has(h.log.String(), h.config+":12: provider clinic: metadata: is of \"https://other.example\"") {
		t.Errorf("%d\n%s", code, h.log)
	}
	h.write(filepath.Join(h.dir, "clinic-idp.xml"), string(good))
	login := func(want string, args ...string) {
		t.Helper()
		cmd := h.command(append([]string{"login", "-c", h.config}, args...)...)
		cmd.Env = []string{"SALLYPORT_TEST=1", "HOME=" + h.dir}
		if out, err := cmd.CombinedOutput(); err == nil || !has(string(out), want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	login("sallyport run", "--saml", "clinic")
	h.serve()
	login(`"nobody" is not among identity.saml`, "--saml", "nobody")
	login("at one of both", "--saml", "clinic", "--issuer", h.issuer.Issuer)
	login("for --saml", "--response", "-", "--issuer", h.issuer.Issuer, "--client", "x")
	alice, answer := h.logIn(samltest.People[0])
	for range 2 {
		if out, err := h.ask(alice, "select 1"); err != nil || out != "1\n" {
			t.Fatalf("for alice: %q %v", out, err)
		}
	}
	mallory, _ := h.logIn(samltest.People[1])
	if out, err := h.ask(mallory, "select 1"); err == nil || !has(out, "FATAL") {
		t.Errorf("for mallory, who is no doctor: %q %v", out, err)
	}
	refused := func(name, response, why string) {
		t.Helper()
		file := filepath.Join(h.dir, "refused.login")
		copied := filepath.Join(h.dir, "copied")
		h.write(copied, response[:70]+"\n"+response[70:]+"\n")
		cmd, said, _ := h.begin("--out", file, "--response", copied)
		if err := cmd.Wait(); err == nil || !has(said.String(), why) {
			t.Errorf("%s: %v\n%s", name, err, said)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s: what was refused is kept", name)
		}
	}
	refused("an answer that was handed over", answer.Response, "handed over before")
	// An answer that nobody handed over, in a file of root's.
	cmd, said, url := h.begin("--out", filepath.Join(h.dir, "late.login"))
	late := h.idp.Login(url, "alice", samltest.People[0].Password)
	stolen := filepath.Join(h.dir, "stolen.login")
	h.write(stolen, late.Response)
	if out, err := h.ask(stolen, "select 1"); err == nil || !has(out, "log in again") {
		t.Errorf("not handed over: %q %v", out, err)
	}
	// Others may post to the browser's way back, and are not heard.
	if page := (&samltest.Answer{To: late.To, Response: answer.Response, RelayState: answer.RelayState}).Post(t); !has(page, "403") {
		t.Error(page)
	}
	if page := late.Post(t); !has(page, "200") {
		t.Error(page)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	// It says who somebody is, and not which agent.
	if out, err := h.psqlWith(alice, "-c", "select 1"); err == nil || !has(out, "FATAL") {
		t.Errorf("as the agent's own token: %q %v", out, err)
	}
	// A reload forgets nobody.
	h.signal(syscall.SIGHUP)
	within(t, "it is reloaded", func() bool { return has(h.log.String(), "reloaded") })
	if out, err := h.ask(alice, "select 1"); err != nil || out != "1\n" {
		t.Errorf("after a reload: %q %v", out, err)
	}
	// Logged out: it ends.
	began, ended := time.Now(), make(chan string, 1)
	go func() {
		out, _ := h.ask(alice, "select pg_sleep(120)")
		ended <- out
	}()
	within(t, "it runs", func() bool {
		out, _ := h.ask(filepath.Join(h.dir, "late.login"), "select count(*) from pg_stat_activity where query = 'select pg_sleep(120)'")
		return out == "1\n"
	})
	if err := os.Remove(alice); err != nil {
		t.Fatal(err)
	}
	if out := <-ended; !has(out, "terminat") || time.Since(began) > 25*time.Second {
		t.Errorf("after %v: %q", time.Since(began), out)
	}
	h.stop()
	all := h.record()
	allowed := 0
	for _, l := range recorded(all, events.Login) {
		if l.Verdict != "allow" {
			continue
		}
		allowed++
		if l.Actor != "agent-a" || l.Principal != "alice" || l.Vouches != h.idp.EntityID || l.Proof != "saml+exec" ||
			l.OfPrincipal.By != "saml+exec" || !slices.Equal(l.OfPrincipal.Bound, []string{"audience", "pidfd"}) || l.OfActor.By != "oidc+pidfd" {
			t.Errorf("%+v", l)
		}
	}
	logins := 0
	for _, l := range recorded(all, events.Lifecycle) {
		if l.Status == "login" && has(l.Message, " by SAML: ", h.idp.EntityID) {
			logins++
		}
	}
	if allowed < 3 || logins != 3 {
		t.Errorf("%d sessions and %d logins are on the record", allowed, logins)
	}
	// The next one knows who logged in, and takes no answer once more; what it
	// can't read it does not believe.
	h.serve()
	late2 := filepath.Join(h.dir, "late.login")
	if out, err := h.ask(late2, "select 1"); err != nil || out != "1\n" {
		t.Errorf("after a restart: %q %v", out, err)
	}
	refused("an answer to the one before", answer.Response, "handed over before")
	h.stop()
	h.write(filepath.Join(h.dir, "state", "logins.json"), "{")
	h.serve()
	if out, err := h.ask(late2, "select 1"); err == nil || !has(out, "log in again") || !has(h.log.String(), "not known any more") {
		t.Errorf("without what is remembered: %q %v", out, err)
	}
	refused("an answer to nobody", answer.Response, "no login that began here")
	h.stop()
}

// The daemon itself fetches metadata from a URL, by TLS and by pin.
func TestLoginBySAMLOfURL(t *testing.T) {
	h := newSAMLHost(t)
	roots := filepath.Join(h.dir, "roots.pem")
	pemBlock := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.idp.Server.Certificate().Raw})
	if err := os.WriteFile(roots, pemBlock, 0o644); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"SSL_CERT_FILE=" + roots}
	h.identity = strings.Replace(h.identity, "metadata: clinic-idp.xml", fmt.Sprintf("metadata: %q\n      pins: [\"sha256:%x\"]", h.idp.EntityID, h.idp.Pin()), 1)
	h.configure()
	h.serve()
	alice, _ := h.logIn(samltest.People[0])
	if out, err := h.ask(alice, "select 1"); err != nil || out != "1\n" {
		t.Errorf("%q %v", out, err)
	}
	h.stop()
}
