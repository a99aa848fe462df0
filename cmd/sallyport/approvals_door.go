package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/cli"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// approvalsDoor is how a command reaches the requests of a host, and as whom.
type approvalsDoor struct {
	nats, nkey, host string // of another host's; nats is "" for the one that runs here
	tls              jetstream.TLS
	issuer           string // that people log in at
	device           bool
}

// doorFlags say by which host a command's questions are answered, and as whom they
// are asked.
func doorFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.String("nats", "", "address of the NATS over which another host is asked")
	f.String("nkey", "", "nkey seed or .creds file of the role \"approvals\" there")
	cli.AddNATSFlags(f)
	f.String("host", "", "the host that is asked over NATS, as it is named in events")
	_ = cmd.MarkPersistentFlagFilename("nkey")
	f.String("issuer", "", "issuer to log in at; needed where several may vouch for you")
	f.Bool("device", false, "list and show what one person may decide, who logs in by device code")
	for _, name := range []string{"nats", "host", "issuer"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

func doorOf(cmd *cobra.Command) (*approvalsDoor, error) {
	f, d := cmd.Flags(), &approvalsDoor{}
	if f.Lookup("nats") == nil {
		return d, nil
	}
	var errs [5]error
	d.nats, errs[0] = f.GetString("nats")
	d.nkey, errs[1] = f.GetString("nkey")
	d.host, errs[2] = f.GetString("host")
	d.issuer, errs[3] = f.GetString("issuer")
	d.device, errs[4] = f.GetBool("device")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if (d.nats == "") != (d.nkey == "") || (d.nats == "") != (d.host == "") {
		return nil, configError(errors.New("another host is asked with all of --nats, --nkey and --host"))
	}
	var err error
	if d.tls, err = cli.NATS(f, d.nats); err != nil {
		return nil, configError(err)
	}
	if d.nats != "" {
		if err := jetstream.CheckURL(d.nats); err != nil {
			return nil, configError(fmt.Errorf("--nats: what waits, and tokens, go there: %w", err))
		}
	}
	if d.host != "" && !jetstream.ValidHost.MatchString(d.host) {
		return nil, configError(fmt.Errorf("--host %q: must be a host's name, as in events", d.host))
	}
	return d, nil
}

// ask asks the host, as whoever logs in where that is wanted.
func (d *approvalsDoor) ask(ctx context.Context, cmd *cobra.Command, q *desk.Ask) (*desk.Answer, error) {
	if d.device && q.Token == "" {
		a, err := d.send(ctx, cmd, &desk.Ask{Do: desk.List})
		if err != nil {
			return nil, err
		}
		if q.Token, err = d.logIn(ctx, cmd, a.Issuers); err != nil {
			return nil, err
		}
	}
	return d.send(ctx, cmd, q)
}

// askToComplete is for a shell that completes a word: nobody logs in for that.
func askToComplete(cmd *cobra.Command, q *desk.Ask) (*desk.Answer, error) {
	d, err := doorOf(cmd)
	if err != nil {
		return nil, err
	}
	return d.send(cmd.Context(), cmd, q)
}

func (d *approvalsDoor) send(ctx context.Context, cmd *cobra.Command, q *desk.Ask) (*desk.Answer, error) {
	if d.nats == "" {
		return askHere(ctx, cmd, q)
	}
	nc, err := jetstream.Connect(d.nats, d.nkey, d.tls.Option(), nats.IgnoreDiscoveredServers())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	return (&desk.Client{Conn: nc}).Ask(ctx, d.host, q)
}

// logIn logs a person in by device code. Their token has no decision's nonce: it shows
// who they are, and signs nothing.
func (d *approvalsDoor) logIn(ctx context.Context, cmd *cobra.Command, all []desk.Issuer) (string, error) {
	var is *desk.Issuer
	for i := range all {
		switch {
		case d.issuer != "" && d.issuer != all[i].URL:
		case is != nil:
			return "", configError(errors.New("several issuers may vouch for an approver: choose one with --issuer"))
		default:
			is = &all[i]
		}
	}
	if is == nil {
		return "", errors.New("nobody can log in: no such issuer is among approvals.issuers of the host")
	}
	if is.Device == "" {
		return "", fmt.Errorf("issuer %s has no client for log-ins by device code: have one registered there, with that grant alone, and named in approvals.issuers[].device_client of the host; or leave --device out", render.Line(is.URL))
	}
	at := is.At(is.Device)
	v, err := oidc.New([]oidc.Issuer{at}, time.Now)
	if err != nil {
		return "", err
	}
	l := oidc.Login{Client: is.Device, Scopes: is.Scopes, ID: true, Tell: func(uri, code string) error {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "open %s\nand see that it shows %s\n", render.Line(uri), render.Line(code))
		return err
	}}
	token, _, err := l.Token(ctx, at, v)
	return token, err
}
