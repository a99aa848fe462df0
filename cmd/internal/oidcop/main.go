// Command oidcop is a small OpenID Connect provider for the demo and the
// tests: zitadel/oidc's server with clients from flags, kept in memory, on
// loopback only. It stands in a module of its own, so that its dependencies
// are none of sallyport's.
//
//	oidcop serve  --listen 127.0.0.1:0 --client agent-a:SECRET [--life 5m] [--alg RS256] [--device ID] [--people ID]
//	oidcop token  --issuer URL --client agent-a --secret SECRET [--audience sallyport] [--for alice:SECRET] [--life 5m] [--out FILE]
//	oidcop rotate --issuer URL [--withdraw]
//	oidcop approve --issuer URL --code CODE [--subject alice]
//
// serve prints "ready URL" when it answers, and ends on SIGTERM or SIGINT.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	commands := map[string]func(context.Context, []string) error{"serve": serveCmd, "token": tokenCmd, "rotate": rotateCmd, "approve": approveCmd}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: oidcop serve|token|rotate|approve [flags]; -h lists them")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "oidcop:", err)
		stop()
		os.Exit(1)
	}
}

type clientFlags map[string]string

func (c clientFlags) String() string { return "" }

func (c clientFlags) Set(v string) error {
	id, secret, ok := strings.Cut(v, ":")
	if !ok || id == "" || secret == "" {
		return fmt.Errorf("want ID:SECRET")
	}
	c[id] = secret
	return nil
}

func serveCmd(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("serve", flag.ExitOnError)
	clients := clientFlags{}
	listen := fs.String("listen", "127.0.0.1:0", "loopback address to serve on")
	life := fs.Duration("life", 5*time.Minute, "longest life of a token")
	alg := fs.String("alg", "RS256", "signature algorithm: RS256 or ES256")
	device := fs.String("device", "", "id of a client without a secret that people log in with, by device code")
	people := fs.String("people", "", "id of a client without a secret that people log in with, by code flow with PKCE")
	fs.Var(clients, "client", "ID:SECRET of a client or service user; repeat")
	_ = fs.Parse(args)
	return serve(ctx, *listen, *alg, *device, *people, *life, clients, os.Stdout)
}

func tokenCmd(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("token", flag.ExitOnError)
	r := tokenRequest{}
	fs.StringVar(&r.issuer, "issuer", "", "URL of the provider")
	fs.StringVar(&r.client, "client", "", "client id")
	fs.StringVar(&r.secret, "secret", "", "client secret")
	fs.StringVar(&r.audience, "audience", "sallyport", "audience of the token")
	fs.StringVar(&r.behalf, "for", "", "ID:SECRET of whom the client acts for: a token with an act claim, by token exchange")
	fs.DurationVar(&r.life, "life", 0, "life of the token; 0 is the provider's")
	out := fs.String("out", "", "file to write, replaced as a whole, mode 0600; default: standard output")
	_ = fs.Parse(args)
	token, err := r.ask(ctx)
	if err != nil {
		return err
	}
	if *out == "" {
		fmt.Println(token)
		return nil
	}
	return replace(*out, token)
}

func rotateCmd(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("rotate", flag.ExitOnError)
	issuer := fs.String("issuer", "", "URL of the provider")
	withdraw := fs.Bool("withdraw", false, "take the old keys out of the key set")
	_ = fs.Parse(args)
	return rotate(ctx, *issuer, *withdraw)
}

func approveCmd(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("approve", flag.ExitOnError)
	issuer := fs.String("issuer", "", "URL of the provider")
	code := fs.String("code", "", "that a person was asked to enter")
	subject := fs.String("subject", "", "who the person is; none denies")
	_ = fs.Parse(args)
	return approveAt(ctx, *issuer, *code, *subject)
}

// replace writes the file beside its place and renames it there, so that a
// reader never sees half a token.
func replace(path, token string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(token+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
