package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/httpapi"
)

// callerName returns the name of a call's caller; "" where the coordinator knows nobody.
func callerName(ctx context.Context) string { return access.From(ctx).Name }

// viewerOf returns a call's caller and its rights, for people who look at the console.
func viewerOf(ctx context.Context) httpapi.Viewer {
	who := access.From(ctx)
	v := httpapi.Viewer{Name: who.Name, Everything: who.Everything()}
	for _, g := range who.Grants() {
		one := httpapi.ViewerGrant{Flows: g.Flows, Mask: g.Mask}
		for _, right := range g.Rights {
			one.Rights = append(one.Rights, right.String())
		}
		v.Grants = append(v.Grants, one)
	}
	return v
}

// httpAddresses returns the addresses at which the registered coordinators serve HTTP.
func (c *Coordinator) httpAddresses() (all []string) {
	for _, other := range c.fleet.Coordinators() {
		if other.HTTP != "" {
			all = append(all, other.HTTP)
		}
	}
	slices.Sort(all)
	return all
}

// ownHosts returns the names by which this coordinator knows itself: the host of its address, and the name of its machine.
func ownHosts(address string) (hosts []string) {
	if host, _, err := net.SplitHostPort(address); err == nil {
		hosts = append(hosts, host)
	}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	return hosts
}

// serveHTTP serves the API, metrics and health on the HTTP listener until ctx is done, and then returns nil.
func (c *Coordinator) serveHTTP(ctx context.Context) error {
	server, err := serve.NewHTTPServer(serve.HTTPConfig{Transport: c.config.Transport, Metrics: c.config.Registry, Profiles: c.config.Profiles, API: c.api, RefuseAPI: c.api.Refuse, Base: c.config.HTTPBase,
		Handlers: map[string]http.Handler{"GET /{$}": c.pages, "GET /console/": c.pages}, Ready: func(context.Context) error {
			select {
			case <-c.ready:
				return nil
			default:
				return errors.New("the flows are not known yet: this coordinator waits for etcd")
			}
		}})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(closing) // requests that do not end in time are cut off below
		_ = server.Close()
	}()
	defer func() { <-ended }()
	if server.TLSConfig != nil {
		err = server.ServeTLS(c.config.HTTP, "", "")
	} else {
		err = server.Serve(c.config.HTTP)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP on %s: %w", c.config.HTTP.Addr(), err)
}
