// Command openbao is a development server of OpenBao for tests: everything in
// memory, unsealed, with its database secrets engine for PostgreSQL and its
// AppRole. It prints its address and its root token, and ends with its input.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/openbao/openbao/builtin/credential/approle"
	"github.com/openbao/openbao/builtin/logical/database"
	baohttp "github.com/openbao/openbao/http"
	"github.com/openbao/openbao/plugins/database/postgresql"
	"github.com/openbao/openbao/sdk/v2/helper/consts"
	"github.com/openbao/openbao/sdk/v2/logical"
	"github.com/openbao/openbao/sdk/v2/physical/inmem"
	"github.com/openbao/openbao/vault"
)

// plugins are those that are built in: databases of one kind.
type plugins struct{}

const postgres = "postgresql-database-plugin"

func (plugins) Contains(name string, kind consts.PluginType) bool {
	return name == postgres && kind == consts.PluginTypeDatabase
}

func (p plugins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return postgresql.New, p.Contains(name, kind)
}

func (plugins) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeDatabase {
		return []string{postgres}
	}
	return nil
}

func (p plugins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, p.Contains(name, kind)
}

func run() error {
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	store, err := inmem.NewInmem(nil, log)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: store, Logger: log, BuiltinRegistry: plugins{},
		LogicalBackends:    map[string]logical.Factory{"kv": vault.LeasedPassthroughBackendFactory, "database": database.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
	})
	if err != nil {
		return err
	}
	shares := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1, StoredShares: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: shares, RecoveryConfig: shares})
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	if open, err := core.Unseal(made.SecretShares[0]); err != nil || !open {
		return fmt.Errorf("unseal: %w", errors.Join(err, errors.New("still sealed")))
	}
	for i := 0; ; i++ {
		if sealed := core.Sealed(); !sealed {
			if standby, err := core.Standby(); err == nil && !standby {
				break
			}
		}
		if i > 1000 {
			return errors.New("it does not become active")
		}
		time.Sleep(10 * time.Millisecond)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: baohttp.Handler.Handler(&vault.HandlerProperties{Core: core})}
	go server.Serve(l)
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"address": "http://" + l.Addr().String(), "token": made.RootToken}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
