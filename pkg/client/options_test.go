package client_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestArgumentsThatCannotBe: the error names them.
func TestArgumentsThatCannotBe(t *testing.T) {
	for want, option := range map[string]client.Option{
		"option 1 is nil":    nil,
		"WithLogger":         client.WithLogger(nil),
		"WithTLS":            client.WithTLS(nil),
		"WithDialOptions":    client.WithDialOptions(grpc.EmptyDialOption{}, nil),
		"WithRetryFor":       client.WithRetryFor(math.MaxInt64),
		"WithRetryDelay":     client.WithRetryDelay(time.Second, math.MaxInt64),
		"WithOpenTimeout":    client.WithOpenTimeout(math.MaxInt64),
		"WithResubmitWithin": client.WithResubmitWithin(math.MaxInt64),
	} {
		if _, err := client.Dial("localhost", option); batch.CodeOf(err) != batch.CodeBadMessage || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
	if _, err := client.Dial("host:99999"); err == nil || !strings.Contains(err.Error(), "host:99999") {
		t.Errorf("a port that can't be: %v", err)
	}
	c, err := client.Dial("localhost", client.WithRetryFor(-1), client.WithRetryDelay(-1, -1), client.WithOpenTimeout(-1), client.WithResubmitWithin(-1), client.WithTracer(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.GiveUp(nil)
	for _, call := range []func() error{
		func() error { _, err := c.Submit(nil, "F", numbered(1)); return err }, //nolint:staticcheck // that is what is tried
		func() error { _, err := c.Stream(nil, "F"); return err },              //nolint:staticcheck // the same
		func() error { _, err := c.Submit(t.Context(), "F", numbered(1), nil); return err },
	} {
		if err := call(); batch.CodeOf(err) != batch.CodeBadMessage || !strings.Contains(err.Error(), "nil") {
			t.Errorf("an argument that is nil: %v", err)
		}
	}
}

// TestTimeoutWithoutEnd: a Timeout that no clock reaches is none.
func TestTimeoutWithoutEnd(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		got := submit(t.Context(), c, "F", numbered(1), client.Timeout(math.MaxInt64))
		call := <-k.calls
		if call.Submission.DeadlineMilliseconds != 0 {
			t.Errorf("the deadline is %d ms", call.Submission.DeadlineMilliseconds)
		}
		call.refuse(&pb.Error{Code: pb.Code_CODE_FLOW_DISABLED, Message: "off"})
		<-got
	})
}
