import Glibc

/// nginx of one back-end: its own prefix, configuration, pid file and logs below the lab's directory.
struct WebServer {
    let plan: LabPlan
    let node: String
    let webRoot: String

    var prefix: String { plan.directory + "/" + node + "/nginx" }
    var root: String { webRoot + "/" + node }
    var command: [String] { ["nginx", "-p", prefix, "-c", prefix + "/nginx.conf", "-e", prefix + "/error.log"] }

    /// Debian's nginx-light brings `echo_sleep`, with which a reply can take its time.
    static let echoModule = "/usr/lib/nginx/modules/ngx_http_echo_module.so"

    func prepare() throws {
        try makeDirectory(prefix + "/tmp")
        try makeDirectory(root)
        try writeFile(prefix + "/nginx.conf", configuration)
    }

    private var configuration: String {
        """
        load_module \(WebServer.echoModule);
        user www-data;
        daemon off;
        master_process on;
        worker_processes 2;
        worker_rlimit_nofile 65536;
        pid \(prefix)/nginx.pid;
        error_log \(prefix)/error.log warn;
        events { worker_connections 32768; }
        http {
            sendfile on;
            default_type application/octet-stream;
            access_log \(prefix)/access.log combined;
            keepalive_timeout 65s;
            client_max_body_size 0;
            client_body_temp_path \(prefix)/tmp/body;
            proxy_temp_path \(prefix)/tmp/proxy;
            fastcgi_temp_path \(prefix)/tmp/fastcgi;
            uwsgi_temp_path \(prefix)/tmp/uwsgi;
            scgi_temp_path \(prefix)/tmp/scgi;
            server {
                listen 80;
                root \(root);
                # The server thinks for a second before the first byte of its reply.
                location = /slow {
                    default_type text/plain;
                    echo_sleep 1;
                    echo "an answer that took a second";
                }
                # Takes a whole request body before it answers.
                location = /upload {
                    default_type text/plain;
                    echo_read_request_body;
                    echo "taken";
                }
            }
        }

        """
    }
}
