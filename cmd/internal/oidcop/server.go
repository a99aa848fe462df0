package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const rotatePath = "/-/rotate"

// serve runs the provider until ctx ends.
func serve(ctx context.Context, listen, alg, device, people string, life time.Duration, clients map[string]string, out io.Writer) error {
	if len(clients) == 0 {
		return fmt.Errorf("no clients: give --client ID:SECRET")
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	if !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return fmt.Errorf("%s: this provider speaks plain HTTP and serves loopback only", listen)
	}
	store, err := newStorage(jose.SignatureAlgorithm(alg), life, clients)
	if err != nil {
		return err
	}
	store.device, store.people = device, people
	issuer := "http://" + ln.Addr().String()
	config := &op.Config{AuthMethodPost: true, CodeMethodS256: true, DeviceAuthorization: deviceConfig}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return err
	}
	provider, err := op.NewProvider(config, store, op.StaticIssuer(issuer), op.WithAllowInsecure())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", provider)
	mux.HandleFunc("POST "+rotatePath, func(w http.ResponseWriter, r *http.Request) {
		if err := store.rotate(r.URL.Query().Has("withdraw")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "{}")
	})
	mux.HandleFunc("POST "+devicePath, store.approve)
	back := op.AuthCallbackURL(provider)
	mux.HandleFunc("GET "+personPath, func(w http.ResponseWriter, r *http.Request) {
		store.arrive(func(ctx context.Context, id string) string { return back(op.ContextWithIssuer(ctx, issuer), id) })(w, r)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	fmt.Fprintln(out, "ready", issuer)
	if err := srv.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}
