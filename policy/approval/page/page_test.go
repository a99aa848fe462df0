package page_test

import (
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
	"sallyport.dev/sallyport/policy/approval/page"
)

func TestMain(m *testing.M) { os.Exit(oidctest.Main(m)) }

const why = "duplicate visit, ticket 4711"

// site is a page of one host, as it is served.
type site struct {
	*approvaltest.Host
	t    *testing.T
	base string
	more string // of the page's configuration
	// hosts are those besides h1.
	hosts []string
	now   atomic.Pointer[page.Page]
	over  func(page.Hosts) page.Hosts // what the hosts' answers go through; nil is nothing
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteOf(t, func(*approvaltest.Host) {})
}

// newSiteOf is newSite of a host that set has changed.
func newSiteOf(t *testing.T, set func(*approvaltest.Host)) *site {
	t.Helper()
	s := &site{Host: approvaltest.Begin(t, "h1", set), t: t}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.now.Load().ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	s.base = srv.URL
	s.restart()
	return s
}

// leads are who may decide.
func (s *site) leads() []policy.Approver {
	return []policy.Approver{{Issuer: s.People.Issuer, Claims: map[string][]string{"groups": {"leads"}}}}
}

// restart has a new page serve, which knows nothing of the one before.
func (s *site) restart() {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "approvals.yaml")
	text := s.more + fmt.Sprintf("nats: %s\nnkey: %s\nhosts: [%s]\nlisten: 127.0.0.1:0\nbase_url: %s\nissuers:\n- {url: %q, client: %s, scopes: [profile], name: the clinic}\n",
		s.NATS.URL(), s.NATS.SeedFile(jetstream.RoleApprovals), strings.Join(append([]string{"h1"}, s.hosts...), ", "), s.base, s.People.Issuer, approvaltest.Client)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	set, err := page.Load(file)
	if err != nil {
		s.t.Fatal(err)
	}
	var hosts page.Hosts = s.Asker(jetstream.RoleApprovals)
	if s.over != nil {
		hosts = s.over(hosts)
	}
	p, err := page.New(set, hosts, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.now.Store(p)
}

// browser is a person's, with its cookies.
type browser struct {
	*site
	http.Client
	who, groups string
}

func (s *site) browser(who, groups string) *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{s, http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, who, groups}
}

// answer is what a browser is shown.
type answer struct {
	status int
	body   string
	to     string // that it is sent to, and did not go
	header http.Header
}

func (b *browser) do(req *http.Request) answer {
	b.t.Helper()
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(body), resp.Header.Get("Location"), resp.Header}
}

// get follows within the page, not to the issuer.
func (b *browser) get(at string) answer {
	b.t.Helper()
	for range 5 {
		if !strings.HasPrefix(at, "http") {
			at = b.base + at
		}
		req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, at, nil)
		if err != nil {
			b.t.Fatal(err)
		}
		a := b.do(req)
		if a.to == "" || strings.HasPrefix(a.to, b.People.Issuer) {
			return a
		}
		at = a.to
	}
	b.t.Fatal("the browser is sent round and round")
	return answer{}
}

func (b *browser) post(path string, form url.Values, header ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.do(req)
}

// atIssuer logs the person in there, and returns where the browser is sent back to.
func (b *browser) atIssuer(uri string) string {
	b.t.Helper()
	return b.People.LogIn(b.t, uri, b.who, b.groups).String()
}

var loginLink = regexp.MustCompile(`href="(/login/0\?to=[^"]+)"`)

// logIn opens a path, logs in on the way, and returns what is shown then.
func (b *browser) logIn(path string) answer {
	b.t.Helper()
	a := b.get(path)
	m := loginLink.FindStringSubmatch(a.body)
	if m == nil {
		b.t.Fatalf("nobody is asked to log in: %d %s", a.status, a.body)
	}
	a = b.get(html.UnescapeString(m[1]))
	return b.get(b.atIssuer(a.to))
}

var hidden = regexp.MustCompile(`name="(csrf|digest)" value="([^"]*)"`)

// form is that of a request which is shown, filled in.
func form(a answer, verb, why string) url.Values {
	v := url.Values{"verb": {verb}, "why": {why}}
	for _, m := range hidden.FindAllStringSubmatch(a.body, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	return v
}

var signLink = regexp.MustCompile(`href="([^"]+)">Sign at the clinic`)

// begin decides, up to the signature, and returns where that is given.
func (b *browser) begin(path, verb string) string {
	b.t.Helper()
	a := b.post(path, form(b.get(path), verb, why))
	m := signLink.FindStringSubmatch(a.body)
	if a.status != http.StatusOK || m == nil {
		b.t.Fatalf("%d %s", a.status, a.body)
	}
	return html.UnescapeString(m[1])
}

// decide decides and signs.
func (b *browser) decide(path, verb string) answer {
	b.t.Helper()
	return b.get(b.atIssuer(b.begin(path, verb)))
}

func (a answer) want(t *testing.T, status int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(a.body), text) {
			t.Errorf("no %q in:\n%s", text, a.body)
		}
	}
	if a.status != status {
		t.Errorf("%d, want %d:\n%s", a.status, status, a.body)
	}
}

func at(id string) string { return "/approvals/h1/" + id }

// A lead follows a link, logs in, sees the request, and approves it: the gate lets it
// run, once. Who denies has it refused with their words.
func TestDecide(t *testing.T) {
	s := newSite(t)
	st := approvaltest.Statement{Text: "DELETE FROM visits WHERE id = $1"}
	id := s.Ask(st)
	b := s.browser("dr-lee", "staff leads")
	a := b.logIn(at(id))
	a.want(t, http.StatusOK, "Request "+id, "pending, until", st.Text, "$1 (int4, text) is 7", "bot-7 for alice, of https://id", "rows of patients", "delete clinic.visits", "dr-lee of the clinic")
	b.get("/").want(t, http.StatusOK, id, "deletes", "pending")
	a = b.decide(at(id), "approve")
	a.want(t, http.StatusOK, "is approved")
	b.get(at(id)).want(t, http.StatusOK, "approved, until", "by dr-lee of "+s.People.Issuer, why)
	if ran, _, _ := s.Run(st); !ran {
		t.Fatal("what was approved does not run")
	}
	b.get(at(id)).want(t, http.StatusOK, "consumed", "kept no longer")
	if got := s.Steps(); got != "requested seen:dr-lee approved consumed" {
		t.Error(got)
	}
	id = s.Ask(st)
	b.decide(at(id), "deny").want(t, http.StatusOK, "is denied")
	if ran, _, state := s.Run(st); ran || state != "denied" {
		t.Error(ran, state)
	}
	b.get("/approvals").want(t, http.StatusOK, "nothing that waits")
	b.get("/approvals?all=1").want(t, http.StatusOK, id)
}

// Two must approve, and one is not two; what was approved is revoked here too.
func TestTwoPeople(t *testing.T) {
	s := newSite(t)
	st := approvaltest.Statement{Text: "DELETE FROM visits", Count: 2}
	id := s.Ask(st)
	lee, kim := s.browser("dr-lee", "leads"), s.browser("dr-kim", "leads")
	lee.logIn(at(id))
	kim.logIn(at(id))
	lee.decide(at(id), "approve").want(t, http.StatusOK, "is pending")
	lee.decide(at(id), "approve").want(t, http.StatusConflict, "somebody else must")
	kim.decide(at(id), "approve").want(t, http.StatusOK, "is approved")
	lee.decide(at(id), "revoke").want(t, http.StatusOK, "is revoked")
	if ran, _, _ := s.Run(st); ran {
		t.Error("what was revoked runs")
	}
	// Four eyes: whom it is asked for decides nothing.
	id = s.Ask(st)
	alice := s.browser("alice", "leads")
	alice.logIn(at(id))
	alice.decide(at(id), "approve").want(t, http.StatusConflict, "somebody else must")
}

// Who may decide nothing sees nothing, and has seen nothing on the record.
func TestWhoMaySee(t *testing.T) {
	s := newSite(t)
	id := s.Ask(approvaltest.Statement{Text: "DELETE FROM visits WHERE name = 'Jane'"})
	other := s.Ask(approvaltest.Statement{Text: "DELETE FROM wards", Group: "matrons"})
	for _, path := range []string{"/approvals", at(id), "/"} {
		if a := s.browser("nobody", "").get(path); strings.Contains(a.body, "deletes") || strings.Contains(a.body, "Jane") || !loginLink.MatchString(a.body) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	mallory := s.browser("mallory", "staff")
	a := mallory.logIn(at(id))
	a.want(t, http.StatusNotFound, "none that you may decide")
	for _, a := range []answer{a, mallory.get("/approvals?all=1"), mallory.get(at(id)), mallory.get(at("ap-aaaaaaaaaaaaaaaaaaaa"))} {
		if strings.Contains(a.body, "Jane") || strings.Contains(a.body, "deletes") {
			t.Errorf("%s", a.body)
		}
	}
	lee := s.browser("dr-lee", "leads")
	lee.logIn("/approvals").want(t, http.StatusOK, id)
	lee.get(at(other)).want(t, http.StatusNotFound)
	if strings.Contains(lee.get("/approvals").body, other) {
		t.Error("a request of others is listed")
	}
	for _, path := range []string{"/approvals/h2/" + id, "/approvals/h1/" + strings.ToUpper(id), "/approvals/h1/x", "/approvals/%2e%2e/" + id, "/approvals/h1/" + id + "/x"} {
		if a := lee.get(path); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if got := s.Steps(); got != "requested requested" {
		t.Errorf("seen by nobody: %s", got)
	}
}

// What an agent or an approver wrote is shown, and acts on nothing.
func TestHostileText(t *testing.T) {
	s := newSite(t)
	const evil = `'<script>alert(1)</script>"><img src=x onerror=alert(2)>` + "\u202e\u2066\x1b[2J\x07\u200b{{.}}</pre>"
	st := approvaltest.Statement{Text: "DELETE FROM visits -- " + evil + "\nWHERE 1 = 1", Justification: evil}
	id := s.Ask(st)
	b := s.browser("dr-lee", "leads")
	check := func(a answer) {
		t.Helper()
		if strings.ContainsAny(a.body, "\x00\x1b\x07\u202e\u2066\u200b") || strings.Contains(a.body, "<script") || strings.Contains(a.body, "<img") || strings.Count(a.body, "</pre>") != strings.Count(a.body, "<pre>") {
			t.Errorf("it is obeyed:\n%s", a.body)
		}
	}
	a := b.logIn(at(id))
	check(a)
	a.want(t, http.StatusOK, `<b class="odd">\u{202e}</b>`, `<b class="odd">\u{1b}</b>[2J`, `<b class="odd">\u{200b}</b>{{.}}`, "\nWHERE 1 = 1", "(not proved)", "of this shape, by anybody", "of any shape, by this workload", "<dt>rows</dt>")
	check(b.get("/approvals"))
	for _, words := range []string{"short", evil + why, why + "\x00", why + "\u202e", strings.Repeat("x", 600)} {
		a := b.post(at(id), form(a, "approve", words))
		a.want(t, http.StatusUnprocessableEntity)
		if strings.Contains(a.body, "<script") || strings.Contains(a.body, "\x00") {
			t.Errorf("%q:\n%s", words, a.body)
		}
	}
	b.post(at(id), form(a, "approve", strings.Repeat("x", 10<<20))).want(t, http.StatusBadRequest)
	// In a reason, HTML is a text like any other.
	a = b.post(at(id), form(a, "deny", `<script>alert("why")</script>`))
	m := signLink.FindStringSubmatch(a.body)
	if check(a); m == nil {
		t.Fatalf("%s", a.body)
	}
	check(b.get(b.atIssuer(html.UnescapeString(m[1]))))
	a = b.get(at(id))
	check(a)
	a.want(t, http.StatusOK, `<script>alert("why")</script>`) // once unescaped
	h := a.header
	if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script") || !strings.Contains(csp, "frame-ancestors 'none'") || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", h)
	}
}

// A form of another site, of another session, or without its token decides nothing, nor
// does one about something else than was shown.
func TestForgedForms(t *testing.T) {
	s := newSite(t)
	id := s.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	lee, kim := s.browser("dr-lee", "leads"), s.browser("dr-kim", "leads")
	a := lee.logIn(at(id))
	good := form(a, "approve", why)
	kims := form(kim.logIn(at(id)), "approve", why)
	change := func(name, value string) url.Values {
		v := form(a, "approve", why)
		v.Set(name, value)
		return v
	}
	s.browser("nobody", "").post(at(id), good).want(t, http.StatusForbidden, "nobody has logged in")
	lee.post(at(id), change("csrf", "")).want(t, http.StatusForbidden)
	lee.post(at(id), kims).want(t, http.StatusForbidden, "not of this log-in")
	lee.post(at(id), good, "Sec-Fetch-Site", "cross-site").want(t, http.StatusForbidden, "another site")
	lee.post(at(id), good, "Origin", "https://evil.example").want(t, http.StatusForbidden, "another site")
	lee.post(at(id), change("digest", strings.Repeat("0", 64))).want(t, http.StatusConflict, "not the one that was shown")
	lee.post(at(id), change("verb", "grant")).want(t, http.StatusUnprocessableEntity)
	if a := lee.get(at(id) + "?verb=approve&why=" + url.QueryEscape(why) + "&csrf=" + good.Get("csrf") + "&digest=" + good.Get("digest")); strings.Contains(a.body, "Sign at") {
		t.Error("a link decides")
	}
	other := s.Ask(approvaltest.Statement{Text: "DELETE FROM wards"})
	lee.post(at(other), good).want(t, http.StatusConflict, "not the one that was shown")
	if got := s.Steps(); strings.Contains(got, "approved") {
		t.Error(got)
	}
	// Logging out is the person's own doing, and ends it.
	lee.post("/logout", url.Values{"csrf": {kims.Get("csrf")}})
	lee.get(at(id)).want(t, http.StatusOK, "Request "+id)
	lee.post("/logout", url.Values{"csrf": {good.Get("csrf")}})
	lee.post(at(id), good).want(t, http.StatusForbidden, "nobody has logged in")
}

// What was begun in one browser ends in that one alone, once, and by the same person.
func TestStates(t *testing.T) {
	s := newSite(t)
	id := s.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	lee, kim := s.browser("dr-lee", "leads"), s.browser("dr-kim", "leads")
	const mine = "begun in this browser"

	// A log-in that another began is not taken: nobody is logged in as somebody else.
	begun := lee.get("/login/0?to=/approvals").to
	back := lee.atIssuer(begun)
	kim.get(back).want(t, http.StatusForbidden, mine)
	changed := strings.Replace(back, "state=", "state=x", 1)
	lee.get(changed).want(t, http.StatusForbidden, mine)
	lee.get("/callback").want(t, http.StatusForbidden, mine)
	lee.get("/callback?state=&code=x").want(t, http.StatusForbidden, mine)
	lee.get(back).want(t, http.StatusOK, id)
	lee.get(back).want(t, http.StatusForbidden, mine) // once

	// A code of one log-in is of no use in another: PKCE, and the nonce.
	kim.get("/login/0?to=/approvals")
	stolen, _ := url.Parse(kim.atIssuer(kim.get("/login/0?to=/approvals").to))
	eve := s.browser("eve", "staff")
	own, _ := url.Parse(eve.atIssuer(eve.get("/login/0?to=/approvals").to))
	q := own.Query()
	q.Set("code", stolen.Query().Get("code"))
	own.RawQuery = q.Encode()
	eve.get(own.String()).want(t, http.StatusForbidden, "refused the log-in")

	// Neither is a token with the nonce of something else.
	nonce := regexp.MustCompile(`nonce=[^&]+`)
	eve.get(eve.atIssuer(nonce.ReplaceAllString(eve.get("/login/0?to=/approvals").to, "nonce=other"))).want(t, http.StatusForbidden, "nonce is another")
	lee.get(lee.atIssuer(nonce.ReplaceAllString(lee.begin(at(id), "approve"), "nonce=other"))).want(t, http.StatusForbidden, "nonce is another")

	// A decision ends in the session that it is of.
	kim.logIn("/approvals")
	back = lee.atIssuer(lee.begin(at(id), "approve"))
	kim.get(back).want(t, http.StatusForbidden, mine)
	s.browser("nobody", "").get(back).want(t, http.StatusForbidden, mine)
	// ... and is signed by who has decided.
	other := s.People.LogIn(t, lee.begin(at(id), "approve"), "dr-kim", "leads").String()
	lee.get(other).want(t, http.StatusForbidden, "somebody else has signed it")
	refused, _ := url.Parse(lee.begin(at(id), "approve"))
	lee.get("/callback?error=access_denied&state="+refused.Query().Get("state")).want(t, http.StatusForbidden, "access_denied")
	mixed, _ := url.Parse(lee.begin(at(id), "approve"))
	lee.get("/callback?code=x&iss=https%3A%2F%2Fevil.example&state="+mixed.Query().Get("state")).want(t, http.StatusForbidden, "https://evil.example")
	if got := s.Steps(); strings.Contains(got, "approved") {
		t.Error(got)
	}
	lee.get(back).want(t, http.StatusOK, "is approved")
	lee.get(back).want(t, http.StatusForbidden, mine)
	if q := mixed.Query(); q.Get("prompt") != "login" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" {
		t.Errorf("%s", mixed)
	}
}

// Nobody is sent to another site.
func TestNoOpenRedirects(t *testing.T) {
	s := newSite(t)
	for _, to := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/approvals/../../x", "/approvals//evil", "/logout", "/approvals?x=1", "javascript:alert(1)", "/approvals/h1/" + strings.Repeat("a", 5000)} {
		b := s.browser("dr-lee", "leads")
		if a := b.get("/login?to=" + url.QueryEscape(to)); strings.Contains(a.body, "evil") || strings.Contains(a.body, "javascript") || !strings.Contains(a.body, "to=%2Fapprovals\"") {
			t.Errorf("%s: %s", to, a.body)
		}
		a := b.get("/login/0?to=" + url.QueryEscape(to))
		req, err := http.NewRequest(http.MethodGet, b.atIssuer(a.to), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := b.do(req); a.to != "/approvals" {
			t.Errorf("%s leads to %s", to, a.to)
		}
	}
}

// Cookies are out of reach of scripts and other sites; where the page is reached by
// https they go no other way.
func TestCookies(t *testing.T) {
	s := newSite(t)
	b := s.browser("dr-lee", "leads")
	for _, c := range (&http.Response{Header: b.get("/login/0").header}).Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.MaxAge <= 0 || c.Secure {
			t.Errorf("%+v", c)
		}
	}
	file := filepath.Join(t.TempDir(), "approvals.yaml")
	text := fmt.Sprintf("hosts: [h1]\nlisten: 127.0.0.1:0\nbase_url: https://approvals.example.com\nissuers: [{url: %q, client: approvers}]\n", s.People.Issuer)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := page.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := page.New(set, &desk.Client{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/login/0", nil))
	if c := w.Result().Cookies(); len(c) != 1 || !c[0].Secure || !strings.HasPrefix(c[0].Name, "__Host-") || w.Header().Get("Strict-Transport-Security") == "" ||
		!strings.Contains(w.Header().Get("Location"), url.QueryEscape("https://approvals.example.com/callback")) {
		t.Errorf("%+v %v", c, w.Header())
	}
}

// The page is away between request and decision, and so is the host: the request waits
// on, and everybody is told.
func TestAway(t *testing.T) {
	s := newSite(t)
	st := approvaltest.Statement{Text: "DELETE FROM visits"}
	id := s.Ask(st)
	b := s.browser("dr-lee", "leads")
	b.logIn(at(id))
	back := b.atIssuer(b.begin(at(id), "approve"))
	s.Close() // the host
	b.get("/approvals").want(t, http.StatusOK, "host h1 does not answer")
	b.get(at(id)).want(t, http.StatusBadGateway, "waits on")
	b.get(back).want(t, http.StatusBadGateway, "not known whether")
	s.Open()
	if _, _, state := s.Run(st); state != "pending" {
		t.Fatal(state)
	}
	back = b.atIssuer(b.begin(at(id), "approve"))
	s.restart() // the page
	b.get(back).want(t, http.StatusForbidden, "begun in this browser")
	b.get(at(id)).want(t, http.StatusOK, "Log in to see")
	if _, _, state := s.Run(st); state != "pending" {
		t.Fatal(state)
	}
	b.logIn(at(id))
	b.decide(at(id), "approve").want(t, http.StatusOK, "is approved")
	if ran, _, _ := s.Run(st); !ran {
		t.Error("what was approved does not run")
	}
}

// Behind a proxy the page may have a folder of a site: it stays in it.
func TestFolder(t *testing.T) {
	people := oidctest.Start(t, "--people", approvaltest.Client)
	set, err := load(t, fmt.Sprintf("hosts: [h1]\nlisten: 127.0.0.1:0\nbase_url: https://example.com/sallyport/\nissuers: [{url: %q, client: approvers}]\n", people.Issuer))
	if err != nil {
		t.Fatal(err)
	}
	p, err := page.New(set, &desk.Client{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) *http.Response {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Result()
	}
	for path, want := range map[string]string{
		"/sallyport/":          "/sallyport/approvals",
		"/sallyport/approvals": "/sallyport/login?to=%2Fapprovals",
		"/sallyport/approvals/h1/ap-7ck3n2v5q4hz6w2x2m7d": "/sallyport/login?to=%2Fapprovals%2Fh1%2Fap-7ck3n2v5q4hz6w2x2m7d",
	} {
		if got := get(path).Header.Get("Location"); got != want {
			t.Errorf("%s leads to %q", path, got)
		}
	}
	if r := get("/approvals"); r.StatusCode != http.StatusNotFound {
		t.Error(r.Status)
	}
	r := get("/sallyport/login/0?to=/approvals")
	if c := r.Cookies(); len(c) != 1 || c[0].Path != "/sallyport/" || !strings.HasPrefix(c[0].Name, "__Secure-") || !strings.Contains(r.Header.Get("Location"), url.QueryEscape("https://example.com/sallyport/callback")) {
		t.Errorf("%+v %v", c, r.Header)
	}
}
