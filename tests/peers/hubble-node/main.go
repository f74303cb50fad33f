// Command hubble-node is a Hubble node for tests: generated or recorded flows go through Cilium's
// own event queue, observer, ring, filters, peer service and gRPC server. Only the step that would
// parse packets is ours: it decodes flow.Flow messages instead. tests/peers/README.md tells more.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/pkg/crypto/certloader"
	v1 "github.com/cilium/cilium/pkg/hubble/api/v1"
	"github.com/cilium/cilium/pkg/hubble/container"
	"github.com/cilium/cilium/pkg/hubble/observer"
	"github.com/cilium/cilium/pkg/hubble/observer/namespace"
	"github.com/cilium/cilium/pkg/hubble/observer/observeroption"
	"github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/hubble/parser"
	"github.com/cilium/cilium/pkg/hubble/server"
	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
	nodetypes "github.com/cilium/cilium/pkg/node/types"
	"github.com/cilium/cilium/pkg/option"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var (
	listen     = flag.String("listen", "127.0.0.1:0", "address to serve on")
	nodeName   = flag.String("node-name", "default/node-1", "CLUSTER/NODE; cluster default leaves no prefix")
	flowsFile  = flag.String("flows", "", "file to feed: JSON lines, or (uint32 LE length, flow.Flow) each; empty: generate")
	rate       = flag.Float64("rate", 0, "flows a second; 0: as fast as the queue takes them")
	count      = flag.Int("count", 0, "flows to feed; 0: the whole file, or for ever")
	skip       = flag.Int("skip", 0, "flows to leave out first")
	sizeHint   = flag.Int("size-hint", 1327, "protobuf bytes of a generated flow, about")
	seed       = flag.Uint64("seed", 1, "seed of generated flows; their uuids are random always")
	ringSize   = flag.Int("ring", 4095, "flows the ring holds: 2^n-1, at most 65535")
	queueSize  = flag.Int("queue", 1024, "events the queue before the ring holds")
	overflow   = flag.Bool("overflow", false, "lose flows when the queue is full, as an agent does, instead of waiting")
	lostEvery  = flag.Int("lost-every", 0, "a LostEvent after each N flows: 3 in the perf buffer, 5 in the queue, in turn")
	uuidLog    = flag.String("uuid-log", "", "append a line 'uuid unix_ns' for each flow before it enters the ring")
	keepTime   = flag.Bool("keep-time", false, "keep the file's times instead of stamping now")
	startAt    = flag.String("start-at", "", "RFC 3339 time of the first flow instead of now; see --step")
	step       = flag.Duration("step", time.Millisecond, "time from one flow to the next with --start-at")
	peers      = flag.String("peers", "", "CLUSTER/NODE=ADDR,... to announce, or @FILE, one a line, watched; empty: itself")
	tlsCert    = flag.String("tls-cert", "", "server certificate, PEM, watched")
	tlsKey     = flag.String("tls-key", "", "server key, PEM, watched")
	clientCA   = flag.String("tls-client-ca", "", "CA of the clients, PEM, watched: clients must show a certificate")
	prime      = flag.Int("prime", 2, "flows fed before serving; a follower of a ring with fewer than 2 hears nothing until it is full")
	waitReader = flag.Bool("wait-reader", false, "feed the rest only after the first GetFlows call")
	hold       = flag.Bool("hold", false, "keep serving when everything is fed")
)

// lostInterval is the agent's default pause between two LostEvents of one kind.
const lostInterval = time.Second

// decoder stands where Cilium parses packets: the perf event's data is a flow.Flow.
type decoder struct {
	cilium parser.Parser // decodes lost events; its packet parsers are absent
	log    *os.File
	next   time.Time // of the next flow with --start-at
}

func (d *decoder) Decode(event *types.MonitorEvent) (*v1.Event, error) {
	perf, ok := event.Payload.(*types.PerfEvent)
	if !ok {
		return d.cilium.Decode(event)
	}
	flow := &flowpb.Flow{}
	check(proto.Unmarshal(perf.Data, flow))
	flow.NodeName = event.NodeName
	if flow.Uuid == "" {
		flow.Uuid = event.UUID.String()
	}
	if *startAt != "" {
		flow.Time, d.next = timestamppb.New(d.next), d.next.Add(*step)
	} else if !*keepTime || flow.Time == nil {
		flow.Time = timestamppb.New(event.Timestamp)
	}
	if d.log != nil { // unbuffered: nothing in the ring is missing here after a kill -9
		_, err := fmt.Fprintf(d.log, "%s %d\n", flow.Uuid, flow.Time.AsTime().UnixNano())
		check(err)
	}
	return &v1.Event{Timestamp: flow.Time, Event: flow}, nil
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "hubble-node:", err)
		os.Exit(1)
	}
}

func main() {
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cluster, name, found := strings.Cut(*nodeName, "/")
	if !found {
		check(fmt.Errorf("--node-name %q is not CLUSTER/NODE", *nodeName))
	}
	option.Config.ClusterName = cluster
	nodetypes.SetName(name)
	capacity, err := container.NewCapacity(*ringSize)
	check(err)
	decode := &decoder{}
	if *uuidLog != "" {
		decode.log, err = os.OpenFile(*uuidLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		check(err)
	}
	if *startAt != "" {
		decode.next, err = time.Parse(time.RFC3339Nano, *startAt)
		check(err)
	}
	reader, readerOnce := make(chan struct{}), sync.Once{}
	node, err := observer.NewLocalServer(decode, namespace.NewManager(), log,
		observeroption.WithMaxFlows(capacity),
		observeroption.WithMonitorBuffer(*queueSize),
		observeroption.WithLostEventSendInterval(lostInterval),
		observeroption.WithOnGetFlowsFunc(func(ctx context.Context, _ *observerpb.GetFlowsRequest) (context.Context, error) {
			readerOnce.Do(func() { time.AfterFunc(100*time.Millisecond, func() { close(reader) }) })
			return ctx, nil
		}))
	check(err)
	listener, err := net.Listen("tcp", *listen)
	check(err)
	security := serveroption.WithInsecure()
	if *tlsCert != "" {
		var clients []string
		if *clientCA != "" {
			clients = append(clients, *clientCA)
		}
		certificates, err := certloader.NewWatchedServerConfig(log, clients, *tlsCert, *tlsKey)
		check(err)
		security = serveroption.WithServerTLS(certificates)
	}
	grpc, err := server.NewServer(log, security, serveroption.WithHealthService(), serveroption.WithObserverService(node),
		serveroption.WithPeerService(newPeerService(listener.Addr().String(), *tlsCert != "")),
		func(o *serveroption.Options) error { o.Listener = listener; return nil })
	check(err)
	go node.Start()
	go func() {
		fmt.Println("fed", feed(node, func() {
			go func() { check(grpc.Serve()) }()
			fmt.Println("ready", listener.Addr())
			if *waitReader {
				<-reader
			}
		}))
		if !*hold {
			os.Exit(0)
		}
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	grpc.Stop()
}
