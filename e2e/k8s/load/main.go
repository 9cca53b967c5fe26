// Command load is both ends of the tests on Kubernetes. With ROLE=worker it is a worker whose functions leave traces in Redis.
// Without, it is a client that sends rows, and compares the answers with the traces.
//
// The tests control the client over HTTP: POST /start?rate=2000 begins a round, POST /stop ends it and answers with its Report, GET
// /report answers with the report so far, and POST /greed submits a row that takes all memory of a worker.
//
// The files, in reading order:
//
//   - main.go: the requests of the tests.
//   - round.go: round, which sends rows and compares answers with traces.
//   - worker.go: the functions of the worker.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// main runs a worker or a client, as ROLE says.
func main() {
	if os.Getenv("ROLE") == "worker" {
		worker.Main(register)
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// grid is the client of the cluster under load, with access to the Redis for traces.
type grid struct {
	client *client.Client
	redis  *redis.Client
	rounds chan *round // capacity 1; holds the current round, or nil between rounds
}

// serve connects to the cluster and serves the requests of the tests until SIGTERM.
func serve() error {
	listen := flag.String("listen", ":8080", "`address` where the tests send their requests")
	server := flag.String("server", "dns:///coordinators:7700", "`address` of the coordinators")
	traces := flag.String("redis", "redis:6379", "`address` of the Redis in which workers leave traces")
	cert, key, ca := flag.String("tls-cert", "", "`file`"), flag.String("tls-key", "", "`file`"), flag.String("tls-ca", "", "`file`")
	flag.Parse()
	options := []client.Option{client.WithLogger(hclog.New(&hclog.LoggerOptions{Name: "client"})), client.WithRetryFor(time.Minute)}
	if *ca != "" {
		options = append(options, client.WithTLSFiles(*ca, *cert, *key))
	}
	c, err := client.Dial(*server, options...)
	if err != nil {
		return err
	}
	defer c.Close()
	g := &grid{client: c, redis: redis.NewClient(&redis.Options{Addr: *traces, PoolSize: 2}), rounds: make(chan *round, 1)}
	defer g.redis.Close()
	g.rounds <- nil

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	pages := &http.Server{Addr: *listen, Handler: g.pages(), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = pages.Close() })
	if err := pages.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pages is the HTTP handler for the requests of the tests: /start, /report, /stop and /greed.
func (g *grid) pages() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, what any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(what); err != nil {
			return // the test has closed the connection
		}
	}
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) {
		now := <-g.rounds
		if now != nil {
			g.rounds <- now
			answer(w, nil, errors.New("a round goes on already"))
			return
		}
		rate, err := strconv.Atoi(r.FormValue("rate"))
		if err == nil {
			now, err = g.start(rate)
		}
		g.rounds <- now
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) {
		now := <-g.rounds
		g.rounds <- now
		if now == nil {
			answer(w, nil, errors.New("no round goes on"))
			return
		}
		answer(w, now.report(), nil)
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		now := <-g.rounds
		if now == nil {
			g.rounds <- nil
			answer(w, nil, errors.New("no round goes on"))
			return
		}
		report, err := now.finish(r.Context())
		g.rounds <- nil
		answer(w, report, err)
	})
	mux.HandleFunc("POST /greed", func(w http.ResponseWriter, r *http.Request) {
		result, err := g.client.Submit(r.Context(), "Greedy", client.Rows(greed{MiB: 4096}))
		if err != nil {
			answer(w, nil, err)
			return
		}
		outcome := "done"
		for _, o := range result.NotDone {
			outcome = fmt.Sprintf("%s %s", o.Outcome, o.Code)
		}
		answer(w, map[string]string{"outcome": outcome}, nil)
	})
	return mux
}
