package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sallyport.dev/sallyport/cmd/internal/config"
)

const (
	// issuedLife is that of a token that is issued here; it is replaced in the
	// middle of it.
	issuedLife = time.Hour
	// issuedInBand is that of one that a command is given once.
	issuedInBand = 24 * time.Hour
)

// issuer stands in for an OpenID Connect issuer at its own URL on loopback. Its
// key is made anew each time and is in no file. nil is none.
type issuer struct {
	file   string // with the workload's token
	first  string // token
	server *http.Server
	cancel context.CancelFunc
}

// startIssuer serves a configuration's only issuer, and writes a token of the
// workload's first subject.
func startIssuer(cfg *config.Config, w *config.Workload, file string, log *slog.Logger) (*issuer, error) {
	bad := func(format string, args ...any) error {
		return configError(fmt.Errorf("%s: --issue: "+format, append([]any{cfg.At("identity", "issuers")}, args...)...))
	}
	if len(cfg.Identity.Issuers) != 1 {
		return nil, bad("there are %d issuers, and it stands in for one", len(cfg.Identity.Issuers))
	}
	is := cfg.Identity.Issuers[0]
	u, err := url.Parse(is.URL)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		return nil, bad("its URL is %s, and must be http://127.0.0.1:PORT", is.URL)
	}
	if len(w.Subjects) == 0 || !slices.Contains(is.Algorithms, "ES256") || is.OneTime || is.Exchange != nil {
		return nil, bad("the workload needs subjects, and the issuer ES256, without one_time and exchange")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", u.Host) // loopback: the configuration has it checked
	if err != nil {
		return nil, fmt.Errorf("--issue: %w", err)
	}
	x := &issuer{file: file, server: &http.Server{Handler: discovery(is.URL, &key.PublicKey), ReadHeaderTimeout: 5 * time.Second}}
	go func() { _ = x.server.Serve(l) }()
	life := issuedLife
	if w.InBand != "" {
		life = issuedInBand
	}
	write := func() (err error) {
		if x.first, err = mint(key, is, w.Subjects[0], life); err != nil {
			return err
		}
		return replaceFile(file, x.first)
	}
	if err := write(); err != nil {
		x.close()
		return nil, err
	}
	var ctx context.Context
	ctx, x.cancel = context.WithCancel(context.Background())
	go func() {
		for pause(ctx, life/2) {
			if err := write(); err != nil {
				log.Error("the workload's token can't be renewed", "error", err)
			}
		}
	}()
	return x, nil
}

func (x *issuer) close() {
	if x == nil {
		return
	}
	if x.cancel != nil {
		x.cancel()
	}
	_ = x.server.Close()
	_ = os.Remove(x.file)
}

// discovery answers as OpenID Connect Discovery 1.0 has it.
func discovery(issuer string, key *ecdsa.PublicKey) http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, v any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	base, _ := url.Parse(issuer)
	answer(base.Path+"/.well-known/openid-configuration", map[string]any{
		"issuer": issuer, "jwks_uri": issuer + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
	})
	answer(base.Path+"/keys", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: "proxy", Algorithm: "ES256", Use: "sig"}}})
	return mux
}

// mint signs a token.
func mint(key *ecdsa.PrivateKey, is config.Issuer, subject string, life time.Duration) (string, error) {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "proxy"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims := map[string]any{"iss": is.URL, "sub": subject, "aud": is.Audience, "iat": now.Unix(), "exp": now.Add(life).Unix()}
	if len(is.Parties) > 0 {
		claims["azp"] = is.Parties[0]
	}
	b, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := s.Sign(b)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// replaceFile writes a file of the caller's alone, at once or not at all.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
