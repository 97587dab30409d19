// Configurations of the web servers beside nginx: static files, kept-alive connections, and what is usual otherwise.

extension WebServer {
    var apacheConfiguration: String {
        """
        LoadModule mpm_event_module modules/mod_mpm_event.so
        LoadModule authz_core_module modules/mod_authz_core.so
        DefaultRuntimeDir \(prefix)
        PidFile \(prefix)/apache.pid
        User www-data
        Group www-data
        Listen 80
        ServerName lab
        DocumentRoot \(root)
        ErrorLog \(prefix)/error.log
        KeepAlive On
        KeepAliveTimeout 65
        MaxKeepAliveRequests 100
        <Directory \(root)>
            Require all granted
        </Directory>

        """
    }

    var lighttpdConfiguration: String {
        """
        server.document-root = "\(root)"
        server.port = 80
        server.username = "www-data"
        server.groupname = "www-data"
        server.max-keep-alive-idle = 65
        mimetype.assign = ( "" => "application/octet-stream" )

        """
    }

    var caddyConfiguration: String {
        """
        {
            auto_https off
            admin off
        }
        :80 {
            bind 0.0.0.0
            root * \(root)
            file_server
        }

        """
    }
}
