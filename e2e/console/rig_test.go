package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// flow is the flow that the tests look at.
const flow = "CalStuAvgScore12"

// start starts a cluster in this process, with the students' flows.
func start(t *testing.T, c devcluster.Config) *devcluster.Cluster {
	t.Helper()
	c.Register, c.HTTP = students.Register, "127.0.0.1:0"
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	k, err := devcluster.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	if err := os.CopyFS(dir, students.Conf); err != nil {
		t.Fatal(err)
	}
	_, docs, err := definition.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Put(ctx, docs); err != nil {
		t.Fatal(err)
	}
	return k
}

// submit submits rows to the flow over HTTP, each a line of JSON, until the flow takes them.
func submit(t *testing.T, k *devcluster.Cluster, token string, rows ...string) {
	t.Helper()
	testprocess.Until(t, "the flow takes rows", func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.Console()+"v1/flows/"+flow+"/rows", strings.NewReader(strings.Join(rows, "\n")))
		if err != nil {
			return err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
}

// load submits good rows until the test ends.
func load(t *testing.T, k *devcluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			var rows strings.Builder
			for i := range 20 {
				fmt.Fprintf(&rows, `{"stu_id": %d, "score_1": 80, "score_2": 90}`+"\n", (n*20+i)%1000)
			}
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.Console()+"v1/flows/"+flow+"/rows", strings.NewReader(rows.String()))
			if err != nil {
				t.Error(err)
				return
			}
			if answer, err := http.DefaultClient.Do(request); err == nil { // a coordinator that ends in the test refuses rows
				_ = answer.Body.Close()
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}
