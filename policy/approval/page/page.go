package page

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// Hosts asks hosts about approvals, and brings decisions: a desk.Client.
type Hosts interface {
	Ask(ctx context.Context, host string, q *desk.Ask) (*desk.Answer, error)
}

// Page implements http.Handler.
type Page struct {
	set      *Settings
	hosts    Hosts
	log      *slog.Logger
	verifier identity.Verifier
	people   *saml.Verifier // nil: nobody logs in by SAML
	brought  brought
	sessions *sessions
	found    map[string]*found
	handler  http.Handler
	now      func() time.Time
}

//go:embed templates
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"shown": shown, "text": text, "time": when}).ParseFS(files, "templates/*.html"))

// maxForm is the size of what a browser may send, in bytes.
const maxForm = 16 << 10

// New makes the page of settings that Load has checked. It logs who decided what, and
// never a statement or a reason.
func New(s *Settings, hosts Hosts, log *slog.Logger) (*Page, error) {
	p := &Page{set: s, hosts: hosts, log: log, now: time.Now, found: map[string]*found{}}
	var all []oidc.Issuer
	for i := range s.Issuers {
		all = append(all, s.Issuers[i].of())
		p.found[s.Issuers[i].URL] = &found{}
	}
	var err error
	if p.verifier, err = oidc.New(all, p.now); err != nil {
		return nil, err
	}
	if p.people, err = s.people(p.now); err != nil {
		return nil, fmt.Errorf("saml: %w", err)
	}
	root := s.base.Path + "/"
	if p.sessions, err = newSessions(p.now, root, s.base.Scheme == "https"); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, p.at("/approvals"), http.StatusSeeOther)
	})
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "templates/style.css") })
	mux.HandleFunc("GET /login", p.chooseLogin)
	mux.HandleFunc("GET /login/{issuer}", p.beginLogin)
	mux.HandleFunc("GET /callback", p.back)
	if p.people != nil {
		mux.HandleFunc("GET /login/saml/{provider}", p.beginSAML)
		mux.HandleFunc("POST /acs", p.bring)
		mux.HandleFunc("GET /acs", p.backSAML)
	}
	mux.HandleFunc("POST /logout", p.logout)
	mux.HandleFunc("GET /approvals", p.list)
	mux.HandleFunc("GET /approvals/{host}/{id}", p.show)
	mux.HandleFunc("POST /approvals/{host}/{id}", p.decide)
	mux.HandleFunc("GET /break-glass", p.listGlass)
	mux.HandleFunc("GET /break-glass/{host}/{id}", p.showGlass)
	mux.HandleFunc("POST /break-glass/{host}/{id}", p.mendGlass)
	forms := http.NewCrossOriginProtection()
	if err := forms.AddTrustedOrigin(s.base.Scheme + "://" + s.base.Host); err != nil {
		return nil, err
	}
	// Providers post from their own site. What comes so has no cookie, and counts only
	// in the browser that began it.
	forms.AddInsecureBypassPattern("POST /acs")
	forms.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fail(w, r, http.StatusForbidden, errors.New("this form is of another site"))
	}))
	p.handler = http.StripPrefix(s.base.Path, forms.Handler(mux))
	return p, nil
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if p.set.base.Scheme == "https" {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	most := int64(maxForm)
	if r.URL.Path == p.at("/acs") {
		most = maxResponse
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	p.handler.ServeHTTP(w, r)
}

// at is a path of the page as browsers know it.
func (p *Page) at(path string) string { return p.set.base.Path + path }

func (p *Page) callback() string {
	return strings.TrimSuffix(p.set.base.String(), "/") + "/callback"
}

// view is what every page is made of.
type view struct {
	Title  string
	Base   string
	Who    string // who has logged in, "" nobody
	CSRF   string
	Body   any
	Status int
}

func (p *Page) render(w http.ResponseWriter, r *http.Request, name string, v view) {
	v.Base = p.set.base.Path
	if s := p.sessions.of(r); s != nil {
		v.Who, v.CSRF = s.proof.Subject+" of "+s.issuer.Name, s.csrf
	}
	var b strings.Builder
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		p.log.Error("a page can't be made", "page", name, "error", err)
		http.Error(w, "this page can't be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if v.Status != 0 {
		w.WriteHeader(v.Status)
	}
	_, _ = w.Write([]byte(b.String()))
}

// fail says why something was not done.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	p.log.Warn("refused", "path", r.URL.Path, "status", status, "error", err)
	p.render(w, r, "error.html", view{Title: http.StatusText(status), Status: status, Body: map[string]any{"Error": err.Error(), "Back": backTo(r)}})
}

// backTo is the request that a page is about, "" where it is of none.
func backTo(r *http.Request) string {
	if host, id := r.PathValue("host"), r.PathValue("id"); host != "" && (requestID.MatchString(id) || glassID.MatchString(id)) {
		return pathOf(url.PathEscape(host), id)
	}
	return ""
}

// pathOf is the page of a request, or of emergency access.
func pathOf(host, id string) string {
	if glassID.MatchString(id) {
		return "/break-glass/" + host + "/" + id
	}
	return "/approvals/" + host + "/" + id
}

var requestID = regexp.MustCompile(`^ap-[a-z2-7]{20}$`)

// ofHost says what is wrong with a request to a host, by what it said.
func ofHost(err error) (int, error) {
	var no *desk.Refused
	switch {
	case errors.As(err, &no):
		return http.StatusConflict, fmt.Errorf("host %s refused it: %s", no.Host, no.Text)
	case errors.Is(err, desk.ErrAway):
		return http.StatusBadGateway, fmt.Errorf("%w. What waits there, waits on", err)
	}
	return http.StatusBadGateway, err
}
